"""Large images in parts: each with a halo of what its inside depends on, so that the parts make the same whole."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

DEFAULT_MEMORY = 2 << 30  # bytes that the networks may use, about
TOKEN_BYTES = 64 << 10  # that encoder and pixel decoder use for a token, measured with ONNX Runtime on a CPU


@dataclass(frozen=True)
class Band:
    """Part of an axis: it is responsible for ``begin:end`` and looks at ``low:high``; the slices are of an axis with
    ``scale`` elements for each unit."""

    begin: int
    end: int
    low: int
    high: int

    def own(self, scale: int = 1) -> slice:
        """What it is responsible for."""
        return slice(scale * self.begin, scale * self.end)

    def seen(self, scale: int = 1) -> slice:
        """What it looks at."""
        return slice(scale * self.low, scale * self.high)

    def inside(self, scale: int = 1) -> slice:
        """Its own part of what it looks at."""
        return slice(scale * (self.begin - self.low), scale * (self.end - self.low))


def bands(length: int, most: int, halo: int) -> list[Band]:
    """An axis in as few parts of about the same length as ``most`` units and the halos allow; a border has no halo,
    because networks see nothing beyond it in the whole image either."""
    count = -(-length // max(1, most - 2 * halo)) if length > most else 1
    edges = np.linspace(0, length, count + 1).round().astype(int).tolist()
    return [Band(begin, end, max(0, begin - halo), min(length, end + halo)) for begin, end in itertools.pairwise(edges)]


def tiles(height: int, width: int, most: int, halo: int, smallest: int) -> list[tuple[Band, Band]]:
    """A grid in tiles of at most ``most`` units, halos included, unless that is less than the halos and an inside of
    ``smallest`` units a side need."""
    if height * width <= most:
        return [(bands(height, height, 0)[0], bands(width, width, 0)[0])]
    side = max(int(most**0.5), 2 * halo + smallest)
    across = bands(width, max(side, most // height), halo)
    down = bands(height, max(side, most // max(band.high - band.low for band in across)), halo)
    return [(rows, columns) for rows in down for columns in across]


def tokens_within(memory: int) -> int:
    """How many tokens at a time encoder and pixel decoder may work on."""
    return max(1, memory // TOKEN_BYTES)


def windows_within(memory: int, window: int, heads: int, width: int) -> int:
    """How many windows at a time the prior may work on: three tensors of scores and ten of activations are alive."""
    tokens = window * window
    return max(1, memory // (4 * tokens * (3 * heads * tokens + 10 * width)))
