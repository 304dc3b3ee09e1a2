"""``uigc decompress --partial``: images of files that may have been cut, with a warning that says what is there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from uigc.runtime.arrays import Pixels
from uigc.runtime.cli.logs import LOG
from uigc.runtime.codec import Codec
from uigc.runtime.errors import UigcError
from uigc.runtime.outcomes import capture
from uigc.runtime.progressive import decompress_partial


def whole_or_part(codec: Codec, data: bytes) -> Pixels:
    """Return the image uint8 (H, W, 3) of a file, or of the part of it that is there."""
    found = decompress_partial(data, codec)
    if not found.is_whole:
        LOG.warning(found.summary)
    return found.image


def each_whole_or_part(codec: Codec, files: Iterator[bytes | UigcError]) -> Iterator[Pixels | UigcError]:
    """Do the same with each of many files, one after the other; errors stand in the place of images."""
    for data in files:
        yield data if isinstance(data, UigcError) else capture(partial(whole_or_part, codec, data))
