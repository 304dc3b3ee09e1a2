"""Colours in sRGB: what an image says of its samples is applied, or refused, and never passed over in silence."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from uigc.runtime.errors import InputError

LOG = logging.getLogger("uigc")
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
_SRGB_GAMMA = 0.45455  # the value that the gAMA chunk of an sRGB image has
_GAMMA_TOLERANCE = 0.01
# Code points of ITU-T H.273 that a PNG's cICP chunk may have for samples that are sRGB, or as good as.
_SRGB_PRIMARIES, _SRGB_TRANSFERS = (1,), (1, 6, 13, 14, 15)


def to_rgb(image: Image.Image, strict: bool = False) -> Image.Image:
    """Convert an image of any mode to 8-bit sRGB.

    An ICC profile is applied. One that cannot be is passed over with a warning, and refused if ``strict``. Without a
    profile, a PNG's gamma is undone. 16-bit grey is rounded to 8 bits; floating-point samples are refused.
    """
    profile, gamma = image.info.get("icc_profile"), image.info.get("gamma")
    image = eight_bit(image)
    if profile:
        return _by_profile(image, profile, strict)
    converted = image if image.mode == "RGB" else image.convert("RGB")
    if isinstance(gamma, float) and gamma > 0 and "srgb" not in image.info:
        return _by_gamma(converted, gamma)
    return converted


def eight_bit(image: Image.Image) -> Image.Image:
    """Round 16-bit grey to 8 bits; refuse deeper and floating-point samples."""
    if image.mode in SIXTEEN_BIT or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise InputError("The image has 32 bits a sample, and at most 16 are taken; convert it to 8 or 16 bits.")
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode == "F":
        raise InputError("The image has floating-point samples, whose range is unknown; convert it to 8 or 16 bits.")
    return image


def check_png(data: bytes) -> None:
    """Refuse a PNG whose cICP chunk states colours, as of HDR, that nothing here converts (PNG, third edition)."""
    for kind, content in _png_chunks(data):
        if kind == b"cICP" and len(content) == 4:
            primaries, transfer, matrix, full_range = content
            if matrix != 0 or full_range != 1:
                raise InputError(
                    f"The image has no RGB samples of full range (cICP matrix {matrix}, range {full_range}), and those "
                    "are needed; convert it to sRGB."
                )
            if primaries not in _SRGB_PRIMARIES or transfer not in _SRGB_TRANSFERS:
                raise InputError(
                    f"The image has wide or high-dynamic-range colours (cICP primaries {primaries}, transfer "
                    f"{transfer}), and sRGB is needed; convert it to sRGB."
                )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of a PNG before its pixels: (type, content)."""
    position = 8 if data.startswith(b"\x89PNG\r\n\x1a\n") else len(data)
    while position + 8 <= len(data):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        if kind == b"IDAT":
            return
        yield kind, data[position + 8 : position + 8 + length]
        position += 12 + length


def _by_gamma(image: Image.Image, gamma: float) -> Image.Image:
    """Convert samples that are light to the power of ``gamma`` (a PNG's gAMA chunk) to sRGB."""
    if abs(gamma - _SRGB_GAMMA) < _GAMMA_TOLERANCE:
        return image
    light = (np.arange(256) / 255) ** (1 / gamma)
    table = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    levels: NDArray[np.uint8] = np.rint(255 * table).astype(np.uint8)
    return Image.fromarray(levels[np.asarray(image)])


def _by_profile(image: Image.Image, profile: bytes, strict: bool) -> Image.Image:
    """Convert to sRGB by an ICC profile, which must fit the samples or, for grey ones, at least their RGB form."""
    from PIL import ImageCms  # which loads a library that most images do not need

    modes = [image.mode] if image.mode in ("L", "RGB", "CMYK", "LAB") else []
    reason: Exception | None = None
    for mode in dict.fromkeys([*modes, *(["RGB"] if image.mode not in ("CMYK", "LAB") else [])]):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image.convert(mode), source, target, outputMode="RGB")
            assert converted is not None
            return converted
        except (ImageCms.PyCMSError, OSError, ValueError) as error:
            reason = error
    found = f"The image's colour profile cannot be applied to its {image.mode} samples ({reason})"
    if strict:
        raise InputError(f"{found}, and one that can be is needed; convert it to sRGB, or remove the profile.")
    LOG.warning("%s and was passed over: its colours are taken for sRGB.", found)
    return image.convert("RGB")
