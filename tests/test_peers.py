"""Other codecs through Pillow: at a quality, scaled down and back, and in a number of bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, features

from uigc.bench.codecs import Uigc, create
from uigc.bench.evaluate import ms_ssim, to_tensor
from uigc.bench.peers import DIVISORS, WRITERS, BaselineCodec, Coded, OutOfReach, Pillow, Quality
from uigc.runtime.codec import Codec
from uigc.runtime.errors import UsageError


def made(codec: BaselineCodec, pixels: np.ndarray) -> list[Coded]:
    """Return an image at all settings, none of which is out of reach."""
    coded = [each for each in codec.code(pixels) if isinstance(each, Coded)]
    assert len(coded) == len(codec.settings)
    return coded


@pytest.mark.parametrize("text", ["0", "100", "1/2:10", "1/3:0"])
def test_settings_are_written_as_they_are_read(text: str) -> None:
    assert Quality.parse(text).label == text
    assert Quality.parse("1/1:7").label == "7"


@pytest.mark.parametrize("text", ["101", "-1", "1/0:5", "1/17:5", "2/3:5", "x", "1/2", "...bpp", "0bpp", "1/2:0.02bpp"])
def test_settings_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        Pillow("jpeg", [text])


def test_a_scaled_image_is_the_codec_s_own_file_of_a_smaller_image(sample: np.ndarray) -> None:
    pixels = sample[:101, :65]
    (coded,) = made(Pillow("webp", ["1/3:40"]), pixels)
    assert coded.setting == "1/3:40"
    assert coded.pixels.shape == pixels.shape
    with Image.open(io.BytesIO(coded.data)) as small:
        assert (small.format, small.size) == ("WEBP", (22, 34))
        again = small.convert("RGB").resize((65, 101), Image.Resampling.LANCZOS)
    assert np.array_equal(coded.pixels, np.array(again))


@pytest.mark.parametrize("budget", [400, 1500, 100_000])
def test_within_a_number_of_bytes(sample: np.ndarray, budget: int) -> None:
    """No scale has a higher quality that fits, and none that fits is closer."""
    pixels, codec = sample[:120, :160], Pillow("webp", [])
    found = codec.within(pixels, budget)
    assert found is not None
    assert len(found.data) <= budget
    every = [codec.at(pixels, Quality(quality, divisor)) for divisor in DIVISORS for quality in range(0, 101, 10)]
    errors = [np.square(each.pixels.astype(float) - pixels).mean() for each in every if len(each.data) <= budget]
    assert np.square(found.pixels.astype(float) - pixels).mean() <= min(errors) + 1e-4


def test_no_file_is_so_small(sample: np.ndarray) -> None:
    assert Pillow("jpeg", []).within(sample, 100) is None
    low, high = Pillow("jpeg", ["0.0001bpp", "50"]).code(sample)
    assert low == OutOfReach("0.0001bpp")
    assert isinstance(high, Coded)


def test_rates_of_ours_and_of_peers(sample: np.ndarray, tiny: Codec) -> None:
    pixels = sample[:160, :160]
    (peer,) = made(create("webp", ["0.2bpp"], None), pixels)
    assert (peer.setting, len(peer.data) <= 640) == ("0.2bpp", True)
    ours = Uigc(tiny, ["0.03bpp", "edge"])
    by_rate, by_mask = made(ours, pixels)
    assert ours.settings == [by_rate.setting, by_mask.setting] == ["0.03bpp", "edge"]
    assert by_rate.data == tiny.compress(pixels, bpp=0.03)
    assert by_mask.data == tiny.compress(pixels, "edge")
    low, high = Uigc(tiny, ["0.0001bpp", "0.03bpp"]).code(pixels)
    assert low == OutOfReach("0.0001bpp")
    assert isinstance(high, Coded)
    assert (high.setting, high.data) == ("0.03bpp", by_rate.data)


def test_qualities_of_ours(sample: np.ndarray, tiny: Codec) -> None:
    pixels = sample[:160, :160]
    ours = Uigc(tiny, ["q0", "q62.50", "q100"])
    files = made(ours, pixels)
    assert ours.settings == [each.setting for each in files] == ["q0", "q62.5", "q100"]
    assert [each.data for each in files] == [tiny.compress(pixels, quality=quality) for quality in (0, 62.5, 100)]
    assert len(files[0].data) < len(files[1].data) < len(files[2].data)
    with pytest.raises(UsageError, match="0 to 100 is possible"):
        Uigc(tiny, ["q101"])
    for text in ("q", "q-5", "50"):
        with pytest.raises(UsageError, match="q50"):
            Uigc(tiny, [text])
    with pytest.raises(UsageError, match="share of blocks"):
        Uigc(tiny, ["edge:x"])


@pytest.mark.parametrize("name", WRITERS)
def test_every_codec_comes_back(name: str, sample: np.ndarray) -> None:
    if name == "heic":
        pytest.importorskip("pillow_heif", reason="needs pillow-heif")
    if name == "jxl":
        pytest.importorskip("pillow_jxl", reason="needs pillow-jxl-plugin")
    if name in ("avif", "webp") and not features.check(name):
        pytest.skip(f"this Pillow was built without {name}")
    pixels = sample[:96, :128]
    low, high, half, least, best = made(Pillow(name, ["5", "90", "1/2:90", "0", "100"]), pixels)
    assert len(least.data) <= len(low.data) < len(high.data) < len(best.data)
    errors = [np.square(coded.pixels.astype(float) - pixels).mean() for coded in (low, high, half)]
    assert len(half.data) < len(high.data)
    assert errors[0] > errors[1] < errors[2]


def test_ms_ssim_of_flat_images_has_a_closed_form() -> None:
    """Only the luminance of the coarsest scale differs, with the weight 0.1333 of Wang et al."""
    first, second = (np.full((176, 176, 3), value, np.uint8) for value in (100, 150))
    a, b = 100 / 255, 150 / 255
    wanted = ((2 * a * b + 1e-4) / (a * a + b * b + 1e-4)) ** 0.1333
    assert ms_ssim(to_tensor(first), to_tensor(second)) == pytest.approx(wanted, abs=5e-5)


def test_ms_ssim_falls_with_the_quality(sample: np.ndarray) -> None:
    pixels = sample[:176, :200]
    values = [
        ms_ssim(to_tensor(coded.pixels), to_tensor(pixels)) for coded in made(Pillow("jpeg", ["1", "50"]), pixels)
    ]
    assert values[0] < values[1] < 1  # type: ignore[operator]
    assert ms_ssim(to_tensor(pixels), to_tensor(pixels)) == 1
    assert ms_ssim(to_tensor(pixels[:160]), to_tensor(pixels[:160])) is None
