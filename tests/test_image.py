"""Images in every mode that Pillow opens, and those that are refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from uigc.runtime.errors import InputError, OutputError
from uigc.runtime.io import image

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


def test_a_broken_profile_is_refused() -> None:
    with pytest.raises(InputError, match="colour profile"):
        image.read(encoded(Image.fromarray(noise(4, 4, 3)), icc_profile=b"not a profile"))


def test_transparency() -> None:
    pixels = noise(4, 4, 4)
    pixels[..., 3] = 255
    assert np.array_equal(image.read(encoded(Image.fromarray(pixels))), pixels[..., :3])
    pixels[0, 0, 3] = 0
    data = encoded(Image.fromarray(pixels))
    with pytest.raises(InputError, match="--background"):
        image.read(data)
    assert image.read(data, "white")[0, 0].tolist() == [255, 255, 255]
    assert image.read(data, "#102030")[0, 0].tolist() == [16, 32, 48]
    with pytest.raises(InputError, match="not a colour"):
        image.read(data, "ultrablack")


def test_animations_are_refused() -> None:
    frames = [Image.fromarray(noise(4, 4, 3)) for _ in range(2)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="animated"):
        image.read(data)


@pytest.mark.parametrize("data", [b"", b"text", encoded(Image.fromarray(noise(64, 64, 3)))[:500]])
def test_unreadable_inputs(data: bytes) -> None:
    with pytest.raises(InputError):
        image.read(data)


@pytest.mark.parametrize("suffix", ["", ".png", ".PNG", ".bmp", ".tif", ".webp"])
def test_lossless_outputs(suffix: str) -> None:
    pixels = noise(9, 5, 3)
    assert np.array_equal(image.read(image.encode(pixels, suffix)), pixels)


@pytest.mark.parametrize("suffix", [".uigc", ".nothing", ".psd"])
def test_unknown_outputs(suffix: str) -> None:
    with pytest.raises(OutputError):
        image.encode(noise(2, 2, 3), suffix)
