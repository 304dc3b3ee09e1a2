"""Images as the bytes of a file arrive, and the image of a file that was cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uigc.runtime.arrays import Bits, Pixels, Tokens
from uigc.runtime.codec import Codec
from uigc.runtime.format.bitstream import MAX_FILE
from uigc.runtime.io.inputs import Data, read_data
from uigc.runtime.progressive.tokens import ProgressiveTokens
from uigc.runtime.shared_codec import shared_codec


@dataclass(frozen=True)
class PartialImage:
    """An image from the first bytes of a file, with what is known of it.

    ``image``: uint8 (H, W, 3) sRGB; ``grid``: its token grid, int32 (h, w).
    ``sent``: the tokens that the whole file holds, bool (h, w); ``received``: those of them that are there. All others
    were regenerated from the prior, in the way that the file states for lost tokens.
    ``stages``: the number of leading stages that are complete.
    ``is_whole``: whether the whole file is there, and so was verified; of a part, nothing can be.
    """

    image: Pixels
    grid: Tokens
    sent: Bits
    received: Bits
    stages: int
    is_whole: bool

    @property
    def summary(self) -> str:
        """What is there and what is not, in a sentence."""
        count = f"{self.received.sum()} of {self.sent.sum()} sent tokens are there"
        if self.is_whole:
            return f"The file is whole: {count}."
        return f"The file was cut: {count}; the rest is regenerated, and the checksum cannot be verified."


class ProgressiveDecoder:
    """Decodes one file while its bytes arrive, into images that become better.

    Each stage of the prior refines the grid of tokens before it. Stages that are complete are kept, so that further
    bytes cost only what they add, and each image the rest of the prior's stages and the pixel decoder.

    ``codec``: the codec to decode with; None for a default codec. The decoder is for one thread at a time.
    """

    def __init__(self, codec: Codec | None = None) -> None:
        self._codec = shared_codec() if codec is None else codec
        self._tokens = ProgressiveTokens(self._codec.token_codec)

    def feed(self, data: bytes) -> PartialImage | None:
        """Take in the next bytes of the file; return an image if they make at least one more stage complete.

        The last image, by the last byte, is that of :meth:`Codec.decompress`. Blocks of any size may be given; every
        call decodes the stage that is not complete once more, from predictions that are kept. Raises a
        :class:`UigcError` for bytes that cannot be the beginning of a file that the codec decodes, and for a whole file
        that is damaged.
        """
        before = self._tokens.complete, self._tokens.is_whole
        self._tokens.feed(data)
        return self.picture() if (self._tokens.complete, self._tokens.is_whole) != before else None

    def picture(self) -> PartialImage:
        """Return the image from all bytes so far, with the tokens of the stage that is not complete, too.

        Raises a :class:`CorruptFileError` as long as the header and the mask of the file are not there.
        """
        tokens = self._tokens
        sent, grid = tokens.sent, tokens.grid()
        image = self._codec.detokenize(grid)
        self._codec.bundle.check_unchanged()
        assert tokens.header is not None
        image = np.ascontiguousarray(image[: tokens.header.height, : tokens.header.width])
        return PartialImage(image, grid, sent, tokens.received(), tokens.complete, tokens.is_whole)


def decompress_partial(file: Data, codec: Codec | None = None) -> PartialImage:
    """Return the image of a .uigc file that may have been cut: a buffer of bytes, a path or a binary file.

    What is there is decoded, and the rest regenerated from the prior. A whole file is verified and gives the image of
    :meth:`Codec.decompress`. ``codec``: the codec to decode with; None for a default codec.

    Raises a :class:`UigcError` for a file that ends before its mask does, and for what :meth:`Codec.decompress`
    refuses for another reason than that it was cut.
    """
    decoder = ProgressiveDecoder(codec)
    decoder._tokens.feed(read_data(file, MAX_FILE))
    return decoder.picture()
