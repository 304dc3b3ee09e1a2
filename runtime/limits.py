"""Limits on the size of images, which keep memory bounded."""

from __future__ import annotations

from dataclasses import dataclass

from uigc.runtime.format.bitstream import MAX_SIDE, check_size

MAX_PIXELS = MAX_SIDE**2
"""Pixels of the largest image, unless the user sets another limit: as many as the format allows, 2^28. Time grows with
them, and so does memory by a few bytes each, since the networks work in tiles."""
WHOLE_PIXELS = 1 << 22
"""The same for tokenizers that look at the whole image, whose memory grows with the square of its pixels."""
BATCH_PIXELS = 1 << 23
"""Pixels of all images of a batch together."""


@dataclass(frozen=True)
class Limits:
    """The limits of one codec.

    ``local``: whether the tokenizer looks only at the neighbourhood of each pixel.
    ``max_pixels``: the user's limit on the pixels of an image, None for the default.
    """

    local: bool
    max_pixels: int | None = None

    @property
    def pixels(self) -> int:
        """The largest number of pixels that one image may have."""
        return self.max_pixels or (MAX_PIXELS if self.local else WHOLE_PIXELS)

    def check(self, width: int, height: int) -> None:
        """Refuse an image that is larger than the format or these limits allow."""
        reason = "" if self.local else " with this bundle, whose tokenizer looks at the whole image at once"
        check_size(width, height, self.pixels, reason)

    def batch(self, width: int, height: int) -> int:
        """Return how many images of a size may go through the networks together."""
        return max(1, (BATCH_PIXELS if self.local else WHOLE_PIXELS) // (width * height))
