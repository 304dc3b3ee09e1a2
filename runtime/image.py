"""Pictures in and out, through Pillow: orientation applied once, colours in sRGB, nothing dropped silently."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageColor, ImageOps, UnidentifiedImageError

from uigc.runtime.errors import InputError, OutputError, TooLargeError

Pixels = NDArray[np.uint8]
# Formats whose defaults would add losses of their own to a decoded picture.
_SAVE: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


def read(data: bytes, background: str | None = None) -> Pixels:
    """Encoded picture -> uint8 (H, W, 3) sRGB; see :func:`to_srgb`."""
    if not data:
        raise InputError("The input is empty, and a picture was expected; check how it was written.")
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return to_srgb(image, background)
    except UnidentifiedImageError:
        raise InputError("The input is no picture that Pillow can open; convert it to PNG, JPEG or WebP.") from None
    except Image.DecompressionBombError as error:
        raise TooLargeError(f"Pillow refuses the picture ({error}); scale it down.") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"The picture cannot be read ({error}); check that it is complete.") from None


def to_srgb(image: Image.Image, background: str | None = None) -> Pixels:
    """A PIL image of any mode -> uint8 (H, W, 3) sRGB.

    Orientation is applied and an ICC profile converted. Transparency is flattened onto ``background`` (a colour name or
    ``#rrggbb``) and refused without one; 16-bit grey is rounded to 8 bits; animations and floats are refused.
    """
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise InputError("The picture is animated, and the format holds a single one; extract the frame you want.")
    image = ImageOps.exif_transpose(image)
    profile = image.info.get("icc_profile")
    image = _flattened(_eight_bit(image), background)
    if profile:
        image = _converted(image, profile)
    return np.asarray(image.convert("RGB"))


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise InputError("The picture has 32 bits a sample, and at most 16 are taken; convert it to 8 or 16 bits.")
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode == "F":
        raise InputError("The picture has floating-point samples, whose range is unknown; convert it to 8 or 16 bits.")
    return image


def _flattened(image: Image.Image, background: str | None) -> Image.Image:
    if not image.has_transparency_data:
        return image
    with_alpha = image.convert("RGBA")
    if with_alpha.getchannel("A").getextrema() == (255, 255):  # opaque: nothing is lost
        return with_alpha.convert("L" if image.mode == "LA" else "RGB")
    if background is None:
        raise InputError(
            "The picture has transparency, which the format does not hold; give --background COLOUR to flatten it."
        )
    try:
        colour = ImageColor.getrgb(background)
    except ValueError:
        raise InputError(f"{background!r} is no colour; give a name such as 'white', or '#rrggbb'.") from None
    flat = Image.new("RGBA", with_alpha.size, colour)
    return Image.alpha_composite(flat, with_alpha).convert("RGB")


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    if image.mode not in ("L", "RGB", "CMYK", "LAB"):
        image = image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        raise InputError(
            f"The picture's colour profile cannot be applied to its {image.mode} samples ({error}); "
            "convert it to sRGB, or remove the profile."
        ) from None
    assert converted is not None
    return converted


def encode(pixels: Pixels, suffix: str) -> bytes:
    """uint8 (H, W, 3) -> the bytes of an image file of that suffix, PNG if it is empty."""
    Image.init()
    format_name = Image.EXTENSION.get(suffix.lower() or ".png")
    if format_name is None or format_name not in Image.SAVE:
        raise OutputError(f"Pictures cannot be written as {suffix!r}; use .png, .webp, .jpg, .tif or .bmp.")
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, format_name, **_SAVE.get(format_name, {}))
    except (OSError, ValueError, KeyError) as error:
        raise OutputError(f"A picture cannot be written as {format_name} ({error}); use .png.") from None
    return buffer.getvalue()
