"""Reading and writing images with Pillow: orientation applied once, colours in sRGB, nothing dropped silently."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageColor, ImageOps, UnidentifiedImageError

from uigc.runtime.arrays import Pixels
from uigc.runtime.errors import InputError, OutputError, UigcError

# Output formats by suffix, with the options that lose the least.
_JPEG: tuple[str, dict[str, Any]] = ("JPEG", {"quality": 95, "subsampling": 0})
_OUTPUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "": ("PNG", {}),
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"lossless": True}),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".bmp": ("BMP", {}),
}
_LIMIT_LOCK = Lock()
_unlimited_readers, _limit = 0, Image.MAX_IMAGE_PIXELS
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


def read(data: bytes, background: str | None = None, check_size: Callable[[int, int], None] | None = None) -> Pixels:
    """Decode an image file to uint8 (H, W, 3) sRGB; see :func:`to_srgb`.

    ``check_size`` is called with width and height before any pixel is decoded, and raises an error if they are too
    large.
    """
    if not data:
        raise InputError("The input is empty, and an image was expected; check how it was written.")
    try:
        with _unlimited(), Image.open(io.BytesIO(data)) as image:
            if check_size is not None:
                check_size(*image.size)
            image.load()
            return to_srgb(image, background)
    except (UigcError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise InputError("The input is not an image that Pillow can open; convert it to PNG, JPEG or WebP.") from None
    except Exception as error:  # decoders of damaged images raise whatever they stumble on
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"The image cannot be read ({reason}); check that it is complete.") from error


@contextlib.contextmanager
def _unlimited() -> Iterator[None]:
    """Switch off Pillow's limit on pixels, which the user cannot set; uigc has its own."""
    global _limit, _unlimited_readers
    with _LIMIT_LOCK:  # several threads read at a time, and the limit is one of the process
        if _unlimited_readers == 0:
            _limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _unlimited_readers += 1
    try:
        yield
    finally:
        with _LIMIT_LOCK:
            _unlimited_readers -= 1
            if _unlimited_readers == 0:
                Image.MAX_IMAGE_PIXELS = _limit


def to_srgb(image: Image.Image, background: str | None = None) -> Pixels:
    """Convert a PIL image of any mode to uint8 (H, W, 3) sRGB.

    The orientation is applied, an ICC profile is converted, and 16-bit grey is rounded to 8 bits. Transparency is
    flattened onto ``background`` (an sRGB colour name or ``#rrggbb``) and refused without one; animations and floats
    are refused.
    """
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise InputError("The image is animated, and the format holds a single image; extract the frame you want.")
    image = ImageOps.exif_transpose(image)
    alpha = _alpha(image, background)
    profile = image.info.get("icc_profile")
    image = _eight_bit(image)
    image = _converted(image, profile) if profile else image.convert("RGB")
    if alpha is not None:
        flat = Image.new("RGB", image.size, _colour(background or "black"))
        flat.paste(image, mask=alpha)
        image = flat
    return np.asarray(image)


def _alpha(image: Image.Image, background: str | None) -> Image.Image | None:
    """Return the transparency of an image, None if it is opaque; without a background it is refused."""
    if not image.has_transparency_data:
        return None
    if image.mode in (*_SIXTEEN_BIT, "I"):
        raise InputError("The image has 16 bits a sample and a transparent colour; convert it to 8 bits.")
    alpha = image.convert("RGBA").getchannel("A")
    if alpha.getextrema() == (255, 255):
        return None
    if background is None:
        raise InputError(
            "The image has transparency, which the format does not hold; "
            "flatten it onto a colour (uigc compress --background COLOUR)."
        )
    _colour(background)
    return alpha


def _colour(name: str) -> tuple[int, ...]:
    """Return the red, green and blue of a colour, 0..255."""
    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError:
        raise InputError(f"{name!r} is not a colour; give a name such as 'white', or '#rrggbb'.") from None


def _eight_bit(image: Image.Image) -> Image.Image:
    """Round 16-bit grey to 8 bits; refuse wider and floating-point samples."""
    if image.mode in _SIXTEEN_BIT or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise InputError("The image has 32 bits a sample, and at most 16 are possible; convert it to 8 or 16 bits.")
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode == "F":
        raise InputError("The image has floating-point samples, whose range is unknown; convert it to 8 or 16 bits.")
    return image


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert to sRGB by an ICC profile, which must fit the samples or, if they are not CMYK or LAB, their RGB form."""
    source_modes = [image.mode] if image.mode in ("L", "RGB", "CMYK", "LAB") else []
    reason: Exception | None = None
    for mode in dict.fromkeys([*source_modes, *(["RGB"] if image.mode not in ("CMYK", "LAB") else [])]):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image.convert(mode), source, target, outputMode="RGB")
            assert converted is not None
            return converted
        except (ImageCms.PyCMSError, OSError) as error:
            reason = error
    raise InputError(
        f"The image's colour profile cannot be applied to its {image.mode} samples ({reason}); "
        "convert it to sRGB, or remove the profile."
    )


def check_not_image(name: str) -> None:
    """Refuse the name of an image for a .uigc file: it is more likely a second input, which would be overwritten."""
    suffix = Path(name).suffix.lower()
    if suffix in Image.registered_extensions():
        raise OutputError(
            f"{name} is named like an image ({suffix}), and a .uigc file is written there; give -o DIR to compress "
            "several images, or another name."
        )


def check_suffix(suffix: str) -> None:
    """Refuse a suffix that :func:`encode` cannot write, before any work is done."""
    if suffix.lower() not in _OUTPUTS:
        raise OutputError(f"Images cannot be written as {suffix!r}; use .png, .webp, .jpg, .tif or .bmp.")


def encode(pixels: Pixels, suffix: str) -> bytes:
    """Encode uint8 (H, W, 3) as an image file of the given suffix; PNG if it is empty."""
    check_suffix(suffix)
    format_name, options = _OUTPUTS[suffix.lower()]
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, format_name, **options)
    except (OSError, ValueError) as error:
        raise OutputError(f"The image cannot be written as {format_name} ({error}); use .png.") from None
    return buffer.getvalue()
