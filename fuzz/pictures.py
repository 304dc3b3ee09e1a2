"""The target that reads encoded images, in every format that is opened."""

from __future__ import annotations

import functools
import io
import random
import re
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from uigc.fuzz.target import Change, Target
from uigc.runtime.format.bitstream import check_size
from uigc.runtime.io import image
from uigc.runtime.io.image import Reading

MAX_PIXELS = 1 << 20
_PNG = b"\x89PNG\r\n\x1a\n"
_BEGINNINGS = {
    "PNG": rb"\x89PNG", "JPEG": rb"\xff\xd8", "WebP": rb"RIFF....WEBP", "GIF": rb"GIF8", "TIFF": rb"II[*+]|MM\0[*+]",
    "BMP": rb"BM", "AVIF": rb"....ftypavi[fs]", "HEIF": rb"....ftyp(hei|mif|hev)", "PNM": rb"P[0-9fyFI]",
    "JPEG 2000": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP", "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL",
}  # fmt: skip


def kind(data: bytes) -> str:
    """Tell the format of an image by its beginning."""
    for name, begin in _BEGINNINGS.items():
        if re.match(begin, data, re.DOTALL):
            return f"images, {name}"
    return "images, other"  # TGA and DIB among them, which begin with nothing certain


def check(data: bytes) -> str:
    """Read an image twice: uint8 (H, W, 3) of the size that was checked last, and the same each time."""
    checked: list[tuple[int, int]] = []

    def look(width: int, height: int) -> None:
        checked.append((height, width))
        check_size(width, height, MAX_PIXELS)

    reading = Reading(background="white", page=1 if len(data) % 8 == 0 else 0)
    pixels = image.read(data, reading, look)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2:] == (3,)
    assert sorted(pixels.shape[:2]) == sorted(checked[-1])
    assert np.array_equal(image.read(data, reading, look), pixels)
    return "decoded"


def mutate(data: bytes, rng: random.Random, change: Change) -> bytes:
    """Alter an image; a PNG's checksums are repaired in most cases."""
    if rng.random() < 0.5:
        data = rng.choice(_seeds())
    if data.startswith(_PNG) and rng.random() < 0.7:
        return _PNG + _with_another_chunk(data[len(_PNG) :], rng, change)
    return change(data)


def _with_another_chunk(data: bytes, rng: random.Random, change: Change) -> bytes:
    """Alter the content of one chunk of a PNG, under a right length and checksum."""
    chunks, position = [], 0
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    if not chunks:
        return change(data)
    place = rng.randrange(len(chunks))
    name, content = chunks[place]
    chunks[place] = rng.choice(chunks) if rng.random() < 0.2 else (name, change(content))
    parts = [len(c).to_bytes(4, "big") + n + c + zlib.crc32(n + c).to_bytes(4, "big") for n, c in chunks]
    return b"".join(parts)


@functools.cache
def _seeds() -> list[bytes]:
    return list(seeds().values())


def seeds() -> dict[str, bytes]:
    """Make small images, in the formats and modes that the installed Pillow writes."""
    rows, columns = np.indices((18, 27))
    colours = np.stack([rows * 14, columns * 9, (rows + columns) * 5], axis=2).astype(np.uint8)
    colour = Image.fromarray(colours)
    made = {}
    for name, (mode, format_name, options) in _kinds().items():
        buffer = io.BytesIO()
        try:
            _converted(colour, mode).save(buffer, format_name, **options)
        except (KeyError, OSError, ValueError):
            continue  # this Pillow does not write the format
        made[f"{name}.{format_name.lower()}"] = buffer.getvalue()
    return made


def _converted(colour: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(colour.convert("L")).astype(np.uint16) * 257)
    return colour.quantize(16) if mode == "P" else colour.convert(mode)


def _kinds() -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Return mode, format and options of each seed by name."""
    dated = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = dated[:24] + bytes(12) + dated[36:]  # without its time
    exif = Image.Exif()
    exif[0x0112] = 6
    image._available()  # registers the plug-ins, which also write
    plain: dict[str, tuple[str, str, dict[str, Any]]] = {
        f"{mode.replace(';', '').lower()}": (mode, "PNG", {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    }
    return plain | {
        "profile": ("RGB", "PNG", {"icc_profile": profile}),
        "profile-grey": ("L", "JPEG", {"icc_profile": profile, "quality": 30}),
        "exif": ("RGB", "JPEG", {"exif": exif, "quality": 50}),
        "progressive": ("RGB", "JPEG", {"progressive": True, "quality": 50}),
        "cmyk": ("CMYK", "JPEG", {"quality": 50}),
        "frames": ("RGB", "MPO", {"save_all": True, "append_images": [Image.new("RGB", (9, 9))], "quality": 30}),
        "lossy": ("RGB", "WEBP", {"quality": 30}),
        "lossless": ("RGBA", "WEBP", {"lossless": True}),
        "alpha": ("RGBA", "AVIF", {"quality": 30}),
        "plain": ("RGB", "TIFF", {}),
        "lzw": ("RGB", "TIFF", {"compression": "tiff_lzw"}),
        "deflate": ("I;16", "TIFF", {"compression": "tiff_adobe_deflate"}),
        "fax": ("1", "TIFF", {"compression": "group4"}),
        "jpeg": ("RGB", "TIFF", {"compression": "jpeg", "quality": 50}),
        "pages": ("P", "TIFF", {"save_all": True, "append_images": [Image.new("L", (9, 9))]}),
        "palette": ("P", "BMP", {}),
        "header": ("RGB", "DIB", {}),
        "animated": ("P", "GIF", {"save_all": True, "append_images": [Image.new("P", (9, 9))]}),
        "pixels": ("RGB", "PPM", {}),
        "wavelet": ("RGB", "JPEG2000", {"quality_mode": "rates", "quality_layers": [8]}),
        "packed": ("RGB", "TGA", {"compression": "tga_rle"}),
        "heic": ("RGB", "HEIF", {"quality": 30}),
        "jxl": ("RGB", "JXL", {"quality": 50}),
    }


PICTURES = Target("image", check, mutate, seeds, "", kind, 0.01, warns=True)
