"""``uigc decompress --partial``: images of files that may have been cut, with a warning that says what is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from uigc.runtime.arrays import Pixels
from uigc.runtime.batching import in_batches
from uigc.runtime.cli.logs import LOG
from uigc.runtime.codec import Codec
from uigc.runtime.errors import UigcError
from uigc.runtime.outcomes import unwrap
from uigc.runtime.progressive import PartialImage, decompress_partial


def wholes_or_parts(codec: Codec, files: Iterable[bytes | UigcError], jobs: int) -> Iterator[PartialImage | UigcError]:
    """Decode each of many files, or the part of it that is there, ``jobs`` at a time; errors stand in the place of
    images."""

    def decode(files: list[bytes]) -> list[PartialImage]:
        return [decompress_partial(data, codec) for data in files]

    return in_batches(files, unwrap, lambda data: None, lambda data: 1, decode, jobs)


def image_of(found: PartialImage) -> Pixels:
    """Return the image uint8 (H, W, 3), with a warning that says what is there of its file if that is not all."""
    if not found.is_whole:
        LOG.warning(found.summary)
    return found.image
