"""How large pictures may be, so that memory stays bounded."""

from __future__ import annotations

from dataclasses import dataclass

from uigc.runtime.bitstream import check_size

MAX_PIXELS = 1 << 25  # an 8K picture; larger ones must be asked for, because memory grows with them
WHOLE_PIXELS = 1 << 22  # the same for tokenizers that look at the whole picture: their memory grows with its square
BATCH_PIXELS = 1 << 23  # of all pictures of a batch


@dataclass(frozen=True)
class Limits:
    """``local``: whether the tokenizer looks at the neighbourhood of each pixel only; ``asked``: most pixels of a
    picture, None for the default."""

    local: bool
    asked: int | None = None

    @property
    def pixels(self) -> int:
        """Of one picture."""
        return self.asked or (MAX_PIXELS if self.local else WHOLE_PIXELS)

    def check(self, width: int, height: int) -> None:
        """Refuse a picture that is larger than the format or these limits admit."""
        reason = "" if self.local else " with this bundle, whose tokenizer looks at the whole picture at once"
        check_size(width, height, self.pixels, reason)

    def batch(self, width: int, height: int) -> int:
        """How many pictures of a size may go through the networks together."""
        return max(1, (BATCH_PIXELS if self.local else WHOLE_PIXELS) // (width * height))
