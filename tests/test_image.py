"""Images in every mode that Pillow opens, and those that are refused."""

from __future__ import annotations

import io
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from uigc.runtime.errors import InputError, TooLargeError, UigcError
from uigc.runtime.io import image
from uigc.runtime.outcomes import capture

RNG = np.random.default_rng(5)


def encoded(photo: Image.Image, format_name: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    photo.save(buffer, format_name, **options)
    return buffer.getvalue()


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def test_rgb_is_untouched() -> None:
    pixels = noise(5, 7, 3)
    assert np.array_equal(image.read(encoded(Image.fromarray(pixels))), pixels)


def test_grey_palette_and_bilevel() -> None:
    grey = noise(4, 6)
    assert np.array_equal(image.read(encoded(Image.fromarray(grey))), np.stack([grey] * 3, axis=2))
    palette = Image.fromarray(noise(4, 6, 3)).quantize(16)
    assert np.array_equal(image.read(encoded(palette)), np.asarray(palette.convert("RGB")))
    assert set(image.read(encoded(Image.fromarray(grey).convert("1"))).flatten()) <= {0, 255}


def test_sixteen_bits_are_rounded() -> None:
    values = np.array([[0, 128, 129, 257, 65535, 32896]], dtype=np.uint16)
    assert image.read(encoded(Image.fromarray(values)))[0, :, 0].tolist() == [0, 0, 1, 1, 255, 128]


@pytest.mark.parametrize(("mode", "text"), [("F", "floating-point"), ("I", "32 bits")])
def test_other_depths_are_refused(mode: str, text: str) -> None:
    values = np.array([[1 << 20, 5]], dtype=np.float32 if mode == "F" else np.int32)
    with pytest.raises(InputError, match=text):
        image.to_srgb(Image.fromarray(values))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(orientation: int) -> None:
    photo = Image.fromarray(noise(6, 4, 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = image.read(encoded(photo, exif=exif))
    swapped = orientation >= 5
    assert turned.shape == ((4, 6, 3) if swapped else (6, 4, 3))
    expected = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: np.rot90,
    }[orientation]
    assert np.array_equal(turned, expected(np.asarray(photo)))


def test_profiles_are_converted() -> None:
    pixels = noise(4, 4, 3)
    same = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    kept = image.read(encoded(Image.fromarray(pixels), icc_profile=same)).astype(int)
    assert np.abs(kept - pixels).max() <= 1
    lab = ImageCms.profileToProfile(
        Image.fromarray(pixels), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    back = image.read(encoded(lab, "TIFF", icc_profile=profile)).astype(int)
    assert np.abs(back - pixels).mean() < 4


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_a_broken_profile_is_passed_over_with_a_warning(caplog: pytest.LogCaptureFixture, mode: str) -> None:
    """Or refused, if asked to: garbage, and a profile of other samples than the image has."""
    photo = Image.fromarray(noise(4, 4, 3)).convert(mode)
    other = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB" if mode == "CMYK" else "LAB")).tobytes()
    for profile in (b"not a profile", other):
        data = encoded(photo, "TIFF", icc_profile=profile)
        caplog.clear()
        assert np.array_equal(image.read(data), np.asarray(photo.convert("RGB")))
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        with pytest.raises(InputError, match="colour profile cannot be applied"):
            image.read(data, image.Reading(strict=True))


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of one grey, 55, with these chunks behind its header."""
    data = encoded(Image.new("RGB", (8, 8), (55, 55, 55)))
    added = b"".join(
        len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        for kind, content in chunks
    )
    return data[:33] + added + data[33:]


def gamma(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", round(value * 100_000).to_bytes(4, "big")


def test_gamma_is_undone() -> None:
    """Linear light of 0.2157 is the grey 128 of sRGB; sRGB's own gamma, and any beside an sRGB chunk, do nothing."""
    assert image.read(png(gamma(1.0)))[0, 0].tolist() == [128] * 3
    assert image.read(png(gamma(0.45455)))[0, 0].tolist() == [55] * 3
    assert image.read(png(gamma(1.0), (b"sRGB", b"\0")))[0, 0].tolist() == [55] * 3


def test_wide_and_hdr_colours_are_refused() -> None:
    for primaries, transfer in ((9, 16), (9, 18), (12, 13), (1, 8)):
        with pytest.raises(InputError, match=f"primaries {primaries}, transfer {transfer}"):
            image.read(png((b"cICP", bytes([primaries, transfer, 0, 1]))))
    assert image.read(png((b"cICP", bytes([1, 13, 0, 1]))))[0, 0].tolist() == [55] * 3
    for matrix, full_range in ((0, 0), (1, 1)):  # as of frames of a video
        with pytest.raises(InputError, match=f"matrix {matrix}, range {full_range}"):
            image.read(png((b"cICP", bytes([1, 1, matrix, full_range]))))


@pytest.mark.parametrize(("size", "fitted"), [((500, 1), (100, 1)), ((3, 700), (1, 80)), ((200, 100), (100, 50))])
def test_a_thin_image_is_scaled_to_a_pixel_at_least(size: tuple[int, int], fitted: tuple[int, int]) -> None:
    data = encoded(Image.new("RGB", size, "teal"))
    assert image.read(data, image.Reading(fit=(100, 80))).shape == (fitted[1], fitted[0], 3)


def test_a_plug_in_that_cannot_be_imported_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is none of the business of an image of another format."""
    (tmp_path / "broken_plugin.py").write_text("raise ImportError('libheif.so.1 is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(image, "_PLUGINS", (("broken_plugin", ""),))
    monkeypatch.setattr(image, "_REGISTERED", set())
    data = encoded(Image.new("RGB", (4, 4), "teal"))
    assert image.read(data).shape == image.read(data).shape == (4, 4, 3)
    assert caplog.text.count("libheif.so.1 is missing") == 1


def test_transparency() -> None:
    pixels = noise(4, 4, 4)
    pixels[..., 3] = 255
    assert np.array_equal(image.read(encoded(Image.fromarray(pixels))), pixels[..., :3])
    pixels[0, 0, 3] = 0
    data = encoded(Image.fromarray(pixels))
    with pytest.raises(InputError, match="--background"):
        image.read(data)
    assert image.read(data, image.Reading("white"))[0, 0].tolist() == [255, 255, 255]
    assert image.read(data, image.Reading("#102030"))[0, 0].tolist() == [16, 32, 48]
    with pytest.raises(InputError, match="not a colour"):
        image.read(data, image.Reading("ultrablack"))


@pytest.mark.parametrize(("format_name", "kind"), [("GIF", "frames of an animation"), ("TIFF", "2 pages")])
def test_one_of_several_images_is_chosen(format_name: str, kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], format_name, save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match=kind):
        image.read(data)
    for page, colour in enumerate(([255, 0, 0], [0, 0, 255])):
        assert np.abs(image.read(data, image.Reading(page=page))[0, 0].astype(int) - colour).max() <= 1
    with pytest.raises(InputError, match="no page 2"):
        image.read(data, image.Reading(page=2))


def test_formats_that_hide_or_start_something_are_not_opened() -> None:
    """An icon may hold a PNG of another size than it says, and PostScript would start a program."""
    icon = encoded(Image.new("RGB", (64, 64), "teal"), "ICO")
    postscript = encoded(Image.new("RGB", (64, 64), "teal"), "EPS")
    for data in (icon, postscript):
        with pytest.raises(InputError, match="not an image that uigc opens"):
            image.read(data)


def test_a_missing_plug_in_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "_available", lambda: ["PNG"])
    for begin, package in ((b"\0\0\0\x18ftypheic", "pillow-heif"), (b"\xff\x0a", "pillow-jxl-plugin")):
        with pytest.raises(InputError, match=f"pip install {package}"):
            image.read(begin + bytes(20))


@pytest.mark.filterwarnings("ignore")
def test_whatever_a_decoder_raises_is_an_error_of_ours() -> None:
    """Damaged images of many formats, cut and with bytes changed: read, or refused in one sentence."""
    photo, kinds = Image.fromarray(noise(48, 64, 3)), set()
    Image.init()
    formats = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "TGA")
    for format_name in filter(Image.SAVE.__contains__, formats):  # Pillow writes AVIF from 11.3 on
        data = encoded(photo.convert("P") if format_name == "GIF" else photo, format_name)
        for _ in range(60):
            damaged = bytearray(data[: RNG.integers(1, len(data) + 1)])
            for place in RNG.integers(0, len(damaged), RNG.integers(0, 6)):
                damaged[place] = RNG.integers(256)
            outcome = capture(partial(image.read, bytes(damaged), image.Reading("white", page=0), check))
            if isinstance(outcome, UigcError):
                assert isinstance(outcome, InputError | TooLargeError), outcome
                assert "\n" not in str(outcome)
                kinds.add(type(outcome.__cause__))
            else:
                assert (outcome.dtype, outcome.ndim, outcome.shape[2]) == (np.uint8, 3, 3)
    assert len(kinds) > 1  # of several libraries


def check(width: int, height: int) -> None:
    if width * height > 1 << 20:
        raise TooLargeError("Too large for this test.")


def test_threads_leave_the_limit_of_pillow_alone() -> None:
    limit, data = Image.MAX_IMAGE_PIXELS, encoded(Image.fromarray(noise(30, 30, 3)))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: image.read(data), range(400)))
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("data", [b"", b"text", encoded(Image.fromarray(noise(64, 64, 3)))[:500]])
def test_unreadable_inputs(data: bytes) -> None:
    with pytest.raises(InputError):
        image.read(data)


def test_larger_images_are_scaled_down_to_fit() -> None:
    made = Image.new("RGB", (300, 100), "red")
    sizes = {(100, 100): (100, 33), (300, 50): (150, 50), (300, 100): (300, 100), (4000, 4000): (300, 100)}
    for fit, expected in sizes.items():
        pixels = image.to_srgb(made, image.Reading(fit=fit))
        assert (pixels.shape[1], pixels.shape[0]) == expected
    assert made.size == (300, 100)
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    made.save(turned, "JPEG", exif=exif)
    assert image.read(turned.getvalue(), image.Reading(fit=(100, 100))).shape == (100, 33, 3)


def test_metadata_is_dropped_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a place"
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", exif=exif, comment=b"mine")
    with caplog.at_level("INFO", "uigc"):
        image.read(buffer.getvalue())
    assert "metadata of the image (EXIF, comment) is not kept" in caplog.text


def test_an_image_that_needs_nothing_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A photograph of 200 megapixels takes 600 MB a copy."""
    made = Image.new("RGB", (8, 8))
    monkeypatch.setattr(Image.Image, "copy", lambda image: pytest.fail("copied"))
    monkeypatch.setattr(Image.Image, "convert", lambda image, mode: pytest.fail("converted"))
    assert image.to_srgb(made).shape == (8, 8, 3)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_faxes_are_refused_because_damage_in_them_is_not_noticed(compression: str) -> None:
    """What a damaged one lacks would be whatever the memory held before: another image each time."""
    output = io.BytesIO()
    Image.new("1", (40, 30), 1).save(output, "TIFF", compression=compression)
    with pytest.raises(InputError, match="compressed as a fax"):
        image.read(output.getvalue())
