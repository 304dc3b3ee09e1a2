"""Tiles of large images: each has a halo of everything its inside depends on, so results equal the whole image's."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

DEFAULT_MEMORY = 2 << 30  # approximate memory budget of the networks in bytes
TOKEN_BYTES = 64 << 10  # memory of encoder and pixel decoder for a token, measured with ONNX Runtime on a CPU


@dataclass(frozen=True)
class Band:
    """A part of an axis, which is responsible for ``begin:end`` and looks at ``low:high``.

             low   begin            end   high
              |-----|================|-----|
               halo        own         halo

    Its slices are of an axis that has ``scale`` elements for each unit.
    """

    begin: int
    end: int
    low: int
    high: int

    def own(self, scale: int = 1) -> slice:
        """The part it is responsible for."""
        return slice(scale * self.begin, scale * self.end)

    def seen(self, scale: int = 1) -> slice:
        """The part it looks at."""
        return slice(scale * self.low, scale * self.high)

    def inside(self, scale: int = 1) -> slice:
        """Its own part, as a slice of the part it looks at."""
        return slice(scale * (self.begin - self.low), scale * (self.end - self.low))


def bands(length: int, largest: int, halo: int) -> list[Band]:
    """Divide an axis into as few bands of about the same length as ``largest`` units, halos included, allow.

    A border has no halo, because networks see nothing beyond it in the whole image either.
    """
    if length <= largest:
        return [Band(0, length, 0, length)]
    count = -(-length // max(1, largest - 2 * halo))
    edges = np.linspace(0, length, count + 1).round().astype(int).tolist()
    return [Band(begin, end, max(0, begin - halo), min(length, end + halo)) for begin, end in itertools.pairwise(edges)]


@lru_cache(64)
def tiles(height: int, width: int, largest: int, halo: int, smallest: int) -> tuple[tuple[Band, Band], ...]:
    """Divide a grid into tiles (rows, columns) of at most ``largest`` units, halos included.

    A tile is larger if its halos and an inside of ``smallest`` x ``smallest`` units need more.
    """
    if height * width <= largest:
        return ((bands(height, height, 0)[0], bands(width, width, 0)[0]),)
    side = max(int(largest**0.5), 2 * halo + smallest)
    across = bands(width, max(side, largest // height), halo)
    down = bands(height, max(side, largest // max(band.high - band.low for band in across)), halo)
    return tuple((rows, columns) for rows in down for columns in across)


def tokens_within(memory: int) -> int:
    """Return how many tokens encoder and pixel decoder may work on at a time in ``memory`` bytes."""
    return max(1, memory // TOKEN_BYTES)


def windows_within(memory: int, window: int, heads: int, width: int) -> int:
    """Return how many windows the prior may work on at a time in ``memory`` bytes.

    Three tensors of attention scores and ten of activations are alive at once, in float32.
    """
    tokens = window * window
    return max(1, memory // (4 * tokens * (3 * heads * tokens + 10 * width)))
