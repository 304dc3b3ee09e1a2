"""Where the tokens of each stage lie in grids of one size: found once, and kept for the sizes that came last."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Bits
from uigc.runtime.format.grid import pad_to_windows, padded_shape
from uigc.runtime.format.schedule import Schedule

SIZES = 8  # grid sizes that are kept: about two megabytes each for the largest images

Cells = NDArray[np.intp]
"""Numbers of tokens in a grid of whole windows, counted in raster order."""


@dataclass(frozen=True)
class StageCells:
    """The tokens of one stage that lie inside the image, in coding order.

    ``cells`` (n,): which they are in the grid. ``rows`` (n,): their rows among the stage's predictions, which have
    rows for padding, too; None if there is no padding, so that rows and tokens correspond.
    """

    cells: Cells
    rows: NDArray[np.intp] | None

    def divide(self, sent: Bits) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return which of the tokens are sent and which are lost; ``sent``: for all tokens of the grid, (H * W,)."""
        flags = sent.take(self.cells)
        return flags.nonzero()[0], np.logical_not(flags, out=flags).nonzero()[0]

    def rows_of(self, tokens: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the rows of the predictions of some of the tokens."""
        return tokens if self.rows is None else self.rows.take(tokens)


@lru_cache(SIZES)
def stage_cells(schedule: Schedule, height: int, width: int, window: int) -> tuple[StageCells, ...]:
    """Return the tokens of every stage in grids (height, width) that are extended to whole windows."""
    tall, wide = padded_shape(height, width, window)
    numbers = np.arange(tall * wide).reshape(tall, wide)
    inside = pad_to_windows(np.ones((height, width), dtype=bool), window, 0).reshape(-1)
    found = []
    for stage in range(len(schedule)):
        cells = schedule.gather(numbers, stage).astype(np.intp)
        rows = inside[cells].nonzero()[0]
        found.append(StageCells(cells, None) if len(rows) == len(cells) else StageCells(cells[rows], rows))
    return tuple(found)
