"""The range of a tensor that int8 covers: observations of the tensor, and three ways to choose.

Quantization is symmetric: a tensor with the range r has the scale r/127, and what lies beyond r is clipped.

| method | range |
|---|---|
| ``min-max`` | the largest magnitude that was seen |
| ``percentile`` | the magnitude that 99.99 % of the values do not exceed |
| ``mse`` | where rounding within and clipping beyond cost the least together, in mean squared error |

No range is below the largest magnitude that was to be covered.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

METHODS = ("min-max", "percentile", "mse")
LEVELS = 127
PERCENTILE = 99.99
BINS = 4096
_TRIED = np.geomspace(0.05, 1, 90)  # ranges that `mse` tries, of the largest magnitude

Floats = NDArray[np.float32]


@dataclass
class Observed:
    """Extremes and a histogram of the magnitudes of a tensor over many images.

    The histogram covers 0 to ``limit``, a power of two that doubles when a larger value comes: two bins become one.
    """

    least: float = np.inf
    most: float = -np.inf
    limit: float = 2.0**-10
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    covered: float = 0.0

    def add(self, values: Floats) -> None:
        """Take in the values of one image, of any shape."""
        magnitudes = np.abs(values.ravel())
        largest = float(magnitudes.max())
        self.least, self.most = min(self.least, float(values.min())), max(self.most, float(values.max()))
        while self.limit <= largest:
            self.limit *= 2
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])
        places = (magnitudes * np.float32(BINS / self.limit)).astype(np.int32)
        self.counts += np.bincount(places, minlength=BINS)

    def cover(self, values: Floats) -> None:
        """Let no range clip these values, of any shape, which do not count otherwise."""
        self.covered = max(self.covered, float(np.abs(values).max()))

    @property
    def largest(self) -> float:
        """The largest magnitude, which may be 0."""
        return max(abs(self.least), abs(self.most))

    def ranges(self) -> dict[str, float]:
        """Return the range by each of ``METHODS``; 1 for a tensor of zeros."""
        if not self.largest:
            return dict.fromkeys(METHODS, self.covered or 1.0)
        found = (self.largest, self._percentile(), self._least_error())
        return {method: max(reach, self.covered) for method, reach in zip(METHODS, found, strict=True)}

    def _percentile(self) -> float:
        share = np.cumsum(self.counts) / self.counts.sum()
        bins = int(np.searchsorted(share, PERCENTILE / 100)) + 1
        return min(bins * self.limit / BINS, self.largest)

    def _least_error(self) -> float:
        used = np.flatnonzero(self.counts)
        centres, counts = (used + 0.5) * self.limit / BINS, self.counts[used]
        tried = self.largest * _TRIED
        scales = tried[:, None] / LEVELS
        rounded = np.minimum(np.rint(centres / scales), LEVELS) * scales
        return float(tried[np.argmin(((centres - rounded) ** 2) @ counts)])
