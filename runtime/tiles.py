"""Large pictures in parts: each with a halo of what its inside depends on, so that the parts make the same whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEFAULT_MEMORY = 2 << 30  # bytes that the networks may use, about
TOKEN_BYTES = 96 << 10  # that encoder and pixel decoder use for a token, measured with ONNX Runtime on a CPU
SMALLEST_TILE = 8  # tokens


@dataclass(frozen=True)
class Band:
    """Part of an axis: it is responsible for ``begin:end`` and looks at ``low:high``."""

    begin: int
    end: int
    low: int
    high: int

    @property
    def inside(self) -> slice:
        """Its own part of what it looks at."""
        return slice(self.begin - self.low, self.end - self.low)


def bands(length: int, most: int, halo: int) -> list[Band]:
    """An axis in as few parts of about the same length as ``most`` units and the halos allow; a border has no halo,
    because networks see nothing beyond it in the whole picture either."""
    count = -(-length // max(1, most - 2 * halo)) if length > most else 1
    edges = np.linspace(0, length, count + 1).round().astype(int).tolist()
    return [Band(begin, end, max(0, begin - halo), min(length, end + halo)) for begin, end in itertools.pairwise(edges)]


def tiles(height: int, width: int, most: int, halo: int) -> list[tuple[Band, Band]]:
    """A grid in tiles of at most ``most`` units, halos included, unless that is less than the halos need."""
    if height * width <= most:
        return [(bands(height, height, 0)[0], bands(width, width, 0)[0])]
    side = max(int(most**0.5), 2 * halo + SMALLEST_TILE)
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


def in_window_rows(tokens: NDArray[np.int32], window: int, most: int, halo: int) -> Iterator[tuple[Band, slice]]:
    """Grids (batch, H, W) in bands of rows of at most ``most`` windows: each band, in windows, and the rows to look
    at."""
    batch, height, width = tokens.shape
    rows = max(most // (batch * (width // window)), 2 * halo + 1)
    for band in bands(height // window, rows, halo):
        yield band, slice(band.low * window, band.high * window)
