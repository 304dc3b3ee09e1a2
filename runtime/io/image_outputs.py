"""Writing images with Pillow: the formats, and how much of the image each keeps."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from uigc.runtime.arrays import Pixels
from uigc.runtime.errors import OutputError, UsageError


@dataclass(frozen=True)
class Output:
    """A format that images are written in.

    ``name``: Pillow's name of it. ``options``: those of Pillow that lose the least, taken unless a quality is given.
    ``lossy``: those that go with a quality; None if the format knows none.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    lossy: dict[str, Any] | None = None


# A PNG of zlib's level 4 has 1 % more bytes than one of its default, 6, and takes half the time.
_PNG, _TIFF, _PPM = Output("PNG", {"compress_level": 4}), Output("TIFF"), Output("PPM")
_JPEG = Output("JPEG", {"quality": 95, "subsampling": 0}, {"subsampling": 0})
OUTPUTS = {
    ".png": _PNG,
    ".webp": Output("WEBP", {"lossless": True}, {}),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".avif": Output("AVIF", {"quality": 95, "subsampling": "4:4:4"}, {"subsampling": "4:4:4"}),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": Output("BMP"),
    ".ppm": _PPM,
    ".pnm": _PPM,
}
"""The formats by suffix."""
_DEFAULT = ".png"
_OWN = "UIGC"  # Pillow's name of the codec's own files, which it knows once uigc.pillow is imported


def as_suffix(text: str) -> str:
    """Return the suffix that a format's name means: ``.jpg`` for ``jpg``, ``JPG`` and ``.jpg``."""
    return f".{text.lower().removeprefix('.')}" if text else ""


def check_suffix(suffix: str, quality: int | None = None) -> Output:
    """Return the format of a suffix, PNG if it is empty; refuse one that :func:`encode` cannot write."""
    output = OUTPUTS.get(suffix.lower() or _DEFAULT)
    if output is None:
        raise OutputError(f"Images cannot be written as {suffix!r}; use one of {' '.join(OUTPUTS)}.")
    Image.preinit()  # the plug-ins of the most common formats, which are imported sooner than all of them
    if output.name not in Image.SAVE:
        Image.init()
    if output.name not in Image.SAVE:
        raise OutputError(
            f"Images cannot be written as {suffix!r} by this Pillow, which has no {output.name}; update Pillow, or use "
            f"another of {' '.join(OUTPUTS)}."
        )
    if quality is not None and output.lossy is None:
        lossy = " ".join(each for each, format in OUTPUTS.items() if format.lossy is not None)
        raise UsageError(f"{output.name} is lossless and takes no --quality; leave it out, or use one of {lossy}.")
    return output


def check_not_image(name: str) -> None:
    """Refuse the name of an image, or of a link to one, for a .uigc file: it is more likely a second input."""
    for path in (name, os.path.realpath(name)):
        suffix = Path(path).suffix.lower()
        if Image.registered_extensions().get(suffix, _OWN) != _OWN:
            raise OutputError(
                f"{name} is named like an image ({suffix}), and a .uigc file is written there; give -o DIR/ to "
                "compress several images, or another name."
            )


def encode(pixels: Pixels, suffix: str, quality: int | None = None) -> bytes:
    """Encode uint8 (H, W, 3) as an image file of the given suffix; PNG if it is empty.

    ``quality`` is 1 to 100, for lossy formats alone; without it they lose as little as they can.
    """
    output = check_suffix(suffix, quality)
    options = output.options if quality is None else {**(output.lossy or {}), "quality": quality}
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, output.name, **options)
    except (OSError, ValueError) as error:
        raise OutputError(f"The image cannot be written as {output.name} ({error}); use .png.") from None
    return buffer.getvalue()
