"""The search for the number of blocks that are sent whole, from few exact sizes and an estimate of all others.

A search proposes numbers of blocks, 0 to n, is told the exact sizes of their files, and proposes again until it knows
which one to keep. It knows nothing about images, priors or files, so that it is tested on any sizes. The number n
stands for the mode ``entire``, whose file has no edge bits and may therefore be smaller than those of slightly less.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.rate_control.rate import TOLERANCE

AIM = 0.988  # of the budget: the estimate's error is as likely above as below, and above is a file in vain
UNSURE = 0.12  # share by which the estimate of a file with all blocks may be wrong
AT_LEAST = 0.5  # of their estimate, that the tokens of the last blocks take for certain
GUESSES = 4  # files that are chosen by the estimate; after these, intervals are halved
WORD = 4  # bytes, in which the coder writes
FEW = 64  # blocks of an image so small that its largest file is always tried


class Search:
    """The state of one search. ``estimate``: modelled sizes in bytes (n + 1,); ``smallest``: the exact size at 0."""

    def __init__(self, estimate: NDArray[np.float64], smallest: int) -> None:
        self.estimate, self.blocks = estimate, len(estimate) - 1
        self.sizes = {0: smallest}

    def propose(self) -> int | None:
        """Return the number of blocks whose size is needed next; None once :attr:`best` is known."""
        raise NotImplementedError

    @property
    def best(self) -> int | None:
        """The number of blocks to keep; None if every file is too large."""
        raise NotImplementedError


class BudgetSearch(Search):
    """Finds the most blocks whose file has at most ``budget`` bytes, up to the tolerance."""

    def __init__(self, estimate: NDArray[np.float64], smallest: int, budget: int) -> None:
        super().__init__(estimate, smallest)
        self.budget = budget

    @property
    def best(self) -> int | None:
        return max((count for count, size in self.sizes.items() if size <= self.budget), default=None)

    def propose(self) -> int | None:
        every = self.blocks
        if every not in self.sizes and self._reaches_budget():
            return every
        low = self.best
        if low is None or low == every or self.sizes[low] >= (1 - TOLERANCE) * self.budget:
            return None
        high = min((count for count, size in self.sizes.items() if size > self.budget), default=every)
        if high - low <= 1:
            return every if high not in self.sizes else None
        if len(self.sizes) > GUESSES + 1:
            return (low + high) // 2
        inside = self._corrected(low, high)[low + 1 : high]
        fitting = np.flatnonzero(inside <= AIM * self.budget)
        return low + 1 + (int(fitting[-1]) if len(fitting) else 0)

    def _reaches_budget(self) -> bool:
        """Return whether the file of all blocks may be as small as the budget."""
        return self.blocks <= FEW or float(self.estimate[-1]) * (1 - UNSURE) <= self.budget

    def _corrected(self, low: int, high: int) -> NDArray[np.float64]:
        """Return the estimate, made to pass through the exact sizes on both sides."""
        end = high if high in self.sizes else 0
        modelled = self.estimate[end] - self.estimate[low]
        scale = (self.sizes[end] - self.sizes[low]) / modelled if modelled else 1.0
        return self.sizes[low] + (self.estimate - self.estimate[low]) * (scale if scale > 0 else 1.0)


class QualitySearch(Search):
    """Takes ``count`` blocks, or all of them if that takes fewer bytes, so that size rises with quality.

    ``edge_bits``: the bytes (n + 1,) that edge bits take in each file of the estimate; none in that of all blocks.
    """

    def __init__(
        self, estimate: NDArray[np.float64], smallest: int, count: int, edge_bits: NDArray[np.float64]
    ) -> None:
        super().__init__(estimate, smallest)
        self.count = count
        self.tokens, self.edge_bits = estimate - edge_bits, edge_bits

    def propose(self) -> int | None:
        if self.count not in self.sizes:
            return self.count
        if self.blocks not in self.sizes and self._may_be_smaller():
            return self.blocks
        return None

    @property
    def best(self) -> int | None:
        return min((self.blocks, self.count), key=lambda count: self.sizes.get(count, np.inf))

    def _may_be_smaller(self) -> bool:
        """Return whether all blocks may take fewer bytes: edge bits are saved, and the other blocks' tokens added."""
        added = float(self.tokens[-1] - self.tokens[self.count])
        return self.blocks <= FEW or AT_LEAST * added <= float(self.edge_bits[self.count]) + WORD
