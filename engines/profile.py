"""For which sizes of image an engine is built."""

from __future__ import annotations

import re
from dataclasses import dataclass

from uigc.runtime.bundle.manifest import is_stage
from uigc.runtime.errors import UsageError
from uigc.runtime.format.grid import grid_shape, padded_shape

NAMED = {
    "kodak": "768x512",
    "kodak-upright": "512x768",
    "hd": "1280x720",
    "full-hd": "1920x1080",
    "4k": "3840x2160",
    "small": "16x16..1024x1024",
    "any": "16x16..2048x2048",
}
DEFAULT = "kodak"
LARGEST = 16384, 64  # pixels a side, images in a batch
Shape = tuple[int, ...]
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})(?:\.\.(\d{1,5})x(\d{1,5}))?")


@dataclass(frozen=True)
class Profile:
    """Images from ``low`` to ``high`` (width, height), both the same for a fixed size, in batches of 1 to ``batch``.

    An engine holds one optimization profile for each; the fixed ones run at one speed, with fixed addresses.
    """

    name: str
    low: tuple[int, int]
    high: tuple[int, int]
    batch: int = 1

    @classmethod
    def parse(cls, text: str, batch: int = 1) -> Profile:
        """Parse a name of ``NAMED``, a size such as ``768x512``, or a range such as ``256x256..1920x1080``."""
        match = _SIZE.fullmatch(NAMED.get(text, text))
        if not match:
            raise UsageError(
                f"The profile {text!r} is neither one of {', '.join(NAMED)} nor a size like 768x512 nor a range like "
                "256x256..1920x1080; give one of these."
            )
        numbers = [int(group) for group in match.groups() if group]
        low, high = (numbers[0], numbers[1]), (numbers[-2], numbers[-1])
        side, images = LARGEST
        if not (0 < low[0] <= high[0] <= side and 0 < low[1] <= high[1] <= side):
            raise UsageError(f"The profile {text!r} does not go from small to large within 1 to {side}; give another.")
        if not 0 < batch <= images:
            raise UsageError(f"Batches of {batch} were asked for, and 1 to {images} are taken; give another.")
        return cls(text, low, high, batch)

    @property
    def text(self) -> str:
        """``768x512`` or ``256x256..1920x1080, batches of 1 to 8``."""
        ends = [f"{width}x{height}" for width, height in dict.fromkeys((self.low, self.high))]
        return "..".join(ends) + (f", batches of 1 to {self.batch}" if self.batch > 1 else "")

    def shapes(self, graph: str, patch: int, window: int, planes: bool = False) -> tuple[Shape, Shape, Shape]:
        """Least, usual and largest shape of the input of ``encoder``, a stage, or ``decoder``; the largest is usual.

        ``planes``: whether images are planes (batch, 3, H, W), as in bundles of version 2, and not (batch, H, W, 3).
        """
        least = self._shape(graph, 1, self.low, patch, window)
        largest = self._shape(graph, self.batch, self.high, patch, window)
        if graph == "encoder" and planes:
            least, largest = ((batch, depth, *sides) for batch, *sides, depth in (least, largest))
        return least, largest, largest

    def _shape(self, graph: str, batch: int, size: tuple[int, int], patch: int, window: int) -> Shape:
        rows, columns = grid_shape(size[1], size[0], patch)
        if graph == "encoder":
            return batch, rows * patch, columns * patch, 3
        if is_stage(graph):
            rows, columns = padded_shape(rows, columns, window)
        return batch, rows, columns
