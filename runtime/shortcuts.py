"""The codec in one call each, with the default bundle on the CPU."""

from __future__ import annotations

from uigc.runtime.arrays import Pixels
from uigc.runtime.format.bitstream import MAX_FILE, Header, read_header
from uigc.runtime.format.mask import Mask
from uigc.runtime.io.inputs import AnyImage, Data, read_data
from uigc.runtime.shared_codec import shared_codec


def compress(
    image: AnyImage,
    mask: Mask | str | None = None,
    *,
    bpp: float | None = None,
    size: int | None = None,
    quality: float | None = None,
    effort: int = 1,
) -> bytes:
    """Return the bytes of a .uigc file for an image, as :meth:`Codec.compress` of a default codec does."""
    return shared_codec().compress(image, mask, bpp=bpp, size=size, quality=quality, effort=effort)


def decompress(file: Data) -> Pixels:
    """Return the image uint8 (H, W, 3) sRGB of a .uigc file, as :meth:`Codec.decompress` of a default codec does."""
    return shared_codec().decompress(file)


def info(file: Data) -> Header:
    """Return the header of a .uigc ``file``, which is a path, bytes, or a file that is open for reading bytes."""
    return read_header(read_data(file, MAX_FILE))
