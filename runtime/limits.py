"""How large images may be, so that memory stays bounded."""

from __future__ import annotations

from dataclasses import dataclass

from uigc.runtime.format.bitstream import check_size

MAX_PIXELS = 1 << 25  # an 8K image; larger ones must be asked for, because memory grows with them
WHOLE_PIXELS = 1 << 22  # the same for tokenizers that look at the whole image: their memory grows with its square
BATCH_PIXELS = 1 << 23  # of all images of a batch


@dataclass(frozen=True)
class Limits:
    """``local``: whether the tokenizer looks at the neighbourhood of each pixel only; ``asked``: most pixels of a
    image, None for the default."""

    local: bool
    asked: int | None = None

    @property
    def pixels(self) -> int:
        """Of one image."""
        return self.asked or (MAX_PIXELS if self.local else WHOLE_PIXELS)

    def check(self, width: int, height: int) -> None:
        """Refuse an image that is larger than the format or these limits admit."""
        reason = "" if self.local else " with this bundle, whose tokenizer looks at the whole image at once"
        check_size(width, height, self.pixels, reason)

    def batch(self, width: int, height: int) -> int:
        """How many images of a size may go through the networks together."""
        return max(1, (BATCH_PIXELS if self.local else WHOLE_PIXELS) // (width * height))
