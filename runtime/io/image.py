"""Reading images with Pillow: orientation applied once, colours in sRGB, nothing dropped silently."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Lock

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from uigc.runtime.arrays import Pixels
from uigc.runtime.errors import InputError, UigcError
from uigc.runtime.io.colour import LOG, SIXTEEN_BIT, check_png, to_rgb
from uigc.runtime.io.extents import stated_sizes

_LIMIT_LOCK = Lock()
_unlimited_readers, _limit = 0, Image.MAX_IMAGE_PIXELS
FORMATS = (
    "PNG", "JPEG", "MPO", "WEBP", "AVIF", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "TGA", "HEIF", "JXL",
)  # fmt: skip
"""Pillow's names of the formats that are opened: none starts another program, or hides an image in an image."""
_PLUGINS = (("pillow_heif", "register_heif_opener"), ("pillow_jxl", ""))  # modules, and what registers them
_REGISTERED: set[str] = set()
_PLUGIN_LOCK = Lock()
_ORIENTATION = 0x0112  # tag of EXIF
_METADATA = {"EXIF": ("exif",), "XMP": ("xmp", "XML:com.adobe.xmp"), "comment": ("comment", "Comment")}
_NEED_PLUGINS = (
    (rb"....ftyp(heic|heix|hevc|hevx|mif1|msf1)", "HEIC", "pillow-heif"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "JPEG XL", "pillow-jxl-plugin"),
)

_FAX = ("tiff_ccitt", "group3", "group4")
"""Compressions of TIFF whose decoder passes over damage and leaves the memory for these pixels as it was."""


@dataclass(frozen=True)
class Reading:
    """Options for reading an image.

    ``background``: the sRGB colour, by name or as ``#rrggbb``, that transparency is flattened onto; None refuses it.
    ``page``: the page or frame of an image that has several, from 0 on; None refuses such an image.
    ``strict``: refuse a colour profile that cannot be applied, instead of passing over it with a warning.
    ``fit``: width and height in pixels that a larger image is scaled down to fit into, keeping its proportions; None
    leaves it as it is.
    """

    background: str | None = None
    page: int | None = None
    strict: bool = False
    fit: tuple[int, int] | None = None


def read(data: bytes, reading: Reading | None = None, check_size: Callable[[int, int], None] | None = None) -> Pixels:
    """Decode an image file to uint8 (H, W, 3) sRGB; see :func:`to_srgb`.

    Only the formats of :data:`FORMATS` are opened. ``check_size`` is called with width and height before any pixel is
    decoded, and raises an error if they are too large.
    """
    if not data:
        raise InputError("The input is empty, and an image was expected; check how it was written.")
    check = check_size or (lambda width, height: None)
    try:
        for size in stated_sizes(data):
            check(*size)
        with _unlimited(), Image.open(io.BytesIO(data), formats=_available()) as image:
            check(*image.size)
            check_png(data)
            _turn_to(image, reading or Reading())
            check(*image.size)  # a page has a size of its own
            if image.info.get("compression") in _FAX:
                raise InputError(
                    "The TIFF is compressed as a fax, and where one is damaged, readers show whatever the memory held; "
                    "convert it to PNG with a program that you trust."
                )
            _load(image)
            if dropped := [name for name, keys in _METADATA.items() if any(key in image.info for key in keys)]:
                LOG.info("metadata of the image (%s) is not kept", ", ".join(dropped))
            return to_srgb(image, reading)
    except (UigcError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise InputError(_unidentified(data)) from None
    except Exception as error:  # decoders of damaged images raise whatever they stumble on
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"The image cannot be read ({reason}); check that it is complete.") from error


def _load(image: Image.Image) -> None:
    """Decode an image, and refuse one that holds another size than the one that it stated and that was checked."""
    stated = image.size
    image.load()
    if sorted(image.size) != sorted(stated):  # a reader that turns the image on decoding exchanges its sides
        raise InputError(
            f"The image states {stated[0]}x{stated[1]} pixels and holds {image.size[0]}x{image.size[1]}; "
            "check that it is complete."
        )


def _available() -> list[str]:
    """Return the formats that are opened, as far as Pillow and its plug-ins are installed."""
    with _PLUGIN_LOCK:  # or another thread would find the formats of a plug-in missing that this one registers
        for module, register in _PLUGINS:
            if module not in _REGISTERED and importlib.util.find_spec(module) is not None:
                _REGISTERED.add(module)
                _register(module, register)
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _register(module: str, register: str) -> None:
    """Import a plug-in, which adds its formats to Pillow's; one that cannot be imported is a warning."""
    try:
        plugin = importlib.import_module(module)
        if register:
            getattr(plugin, register)()
    except (ImportError, OSError) as error:
        LOG.warning("the package of %s cannot be used (%s); install it again", module, error)


def _unidentified(data: bytes) -> str:
    for begin, name, package in _NEED_PLUGINS:
        if re.match(begin, data, re.DOTALL):
            return f"The input is a {name} image, which needs the package {package}; run: pip install {package}."
    return "The input is not an image that uigc opens; convert it to PNG, JPEG or WebP."


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


def _turn_to(image: Image.Image, reading: Reading) -> None:
    """Turn to the page asked for; refuse an image of several without one."""
    count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # an MPO's first frame is the photograph
    if reading.page is None and count > 1:
        kind = "pages" if image.format == "TIFF" else "frames of an animation"
        raise InputError(
            f"The image has {count} {kind}, and the format holds one image; choose one (uigc compress --page N)."
        )
    if reading.page is not None:
        if not 0 <= reading.page < count:
            raise InputError(f"The image has no page {reading.page}, and 0 to {count - 1} are there; choose another.")
        image.seek(reading.page)


def to_srgb(image: Image.Image, reading: Reading | None = None) -> Pixels:
    """Convert a PIL image of any mode to uint8 (H, W, 3) sRGB.

    Orientation is applied, colours are converted (``colour.py``), transparency is flattened onto the background, or
    refused without one, and an image that is larger than asked for is scaled down.
    """
    reading = reading or Reading()
    if image.getexif().get(_ORIENTATION, 1) != 1:  # exif_transpose copies what it need not turn
        image = ImageOps.exif_transpose(image)
    alpha = _alpha(image, reading.background)
    image = to_rgb(image, reading.strict)
    if alpha is not None:
        flat = Image.new("RGB", image.size, _colour(reading.background or "black"))
        flat.paste(image, mask=alpha)
        image = flat
    if reading.fit and (image.width > reading.fit[0] or image.height > reading.fit[1]):
        share = min(reading.fit[0] / image.width, reading.fit[1] / image.height)
        size = [max(1, round(share * side)) for side in image.size]
        image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _alpha(image: Image.Image, background: str | None) -> Image.Image | None:
    """Return the transparency of an image, None if it is opaque; refuse it without a background."""
    if not image.has_transparency_data:
        return None
    if image.mode in (*SIXTEEN_BIT, "I"):
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
    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError:
        raise InputError(f"{name!r} is not a colour; give a name such as 'white', or '#rrggbb'.") from None
