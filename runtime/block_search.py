"""The encoder's search, by effort: for the blocks that a decoder would miss most, and for the seed of what it draws.

Whatever it finds, decoders take the same time, and are the same. It counts in integers, so that every machine writes
the same file of the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Bits, Predictions, Tokens
from uigc.runtime.format import mask
from uigc.runtime.format.block_choice import block_losses
from uigc.runtime.format.entropy_coder import Rows
from uigc.runtime.format.mask import Mask
from uigc.runtime.format.regeneration import SEEDS, Candidates, RandomNumbers, random_numbers
from uigc.runtime.networks.stage_cells import Cells
from uigc.runtime.networks.staged_prior import StagedPrior
from uigc.runtime.networks.walk import Observer
from uigc.runtime.progress import Progress, silent

Order = NDArray[np.int64]
"""The numbers (n,) of all blocks of a grid in raster order, those that a decoder would miss most first."""

SMALLEST_PART = 64  # of so many, that are ranked first


def part_ends(count: int, effort: int) -> list[int]:
    """Return where the parts end that ``count`` blocks are ranked in; effort 1 has one part.

    They grow by the same factor each, 4 with effort 2, 2 with effort 3, and the square root of the last with each
    effort more, so that files of every size pass through a number of them.
    """
    steps = [2.0 ** (-number * 2.0 ** (3 - effort)) for number in range(1, 1 + 6 * 2**effort)] if effort > 1 else []
    ends = {round(count * share) for share in steps if share >= 1 / SMALLEST_PART}
    return [*sorted(ends - {0, count}), count]


def seeds_from(seed: int, effort: int) -> list[int]:
    """Return the seeds that are tried: 1, 2, 4 ... 256 for the efforts 1 to 9; after the last comes 0."""
    return [(seed + number) % SEEDS for number in range(1 << (effort - 1))]


def ranked_blocks(
    prior: StagedPrior,
    codewords: NDArray[np.int64],
    grids: Sequence[Tokens],
    regenerated: Sequence[Tokens],
    choice: Mask,
    *,
    needed: Sequence[int] | None = None,
    progress: Progress = silent,
) -> list[Order]:
    """Return the order of the blocks of each grid (h, w); all grids have one shape.

    ``regenerated``: what comes back if no block is sent. It ranks the first part of the blocks (:func:`part_ends`); the
    next part is ranked by what comes back once the blocks before it are sent, because some losses mend themselves when
    their surroundings are known. Blocks never depend on those after them, so that a file with more blocks has all those
    of a file with fewer. Lost tokens are drawn with the seed of ``choice``.

    ``needed``: how many blocks of each grid will be sent at most; the order of the others is not searched for.
    """
    shape = mask.block_shape(*grids[0].shape)
    count = shape[0] * shape[1]
    limits = [count for _ in grids] if needed is None else needed
    ends, orders, known = part_ends(count, choice.effort), [np.empty(0, np.int64) for _ in grids], list(regenerated)
    parts = 1 + sum(end < max(limits) for end in ends)
    for part, end in enumerate(ends[:parts]):
        if parts > 1:
            progress("blocks", part, parts)
        going = [number for number, order in enumerate(orders) if len(order) < count]
        for number in going:
            losses = block_losses(grids[number], known[number], codewords)
            orders[number] = _extended(orders[number], losses, end if end < limits[number] else count)
        if going := [number for number in going if len(orders[number]) < count]:
            edges = [first_blocks(orders[number], end, shape) for number in going]
            sent = [mask.sent_tokens(choice.mode, each, prior.schedule, *grids[0].shape) for each in edges]
            found = prior.regenerate([grids[number] for number in going], sent, choice.seed)
            for number, back in zip(going, found, strict=True):
                known[number] = back
    if parts > 1:
        progress("blocks", parts, parts)
    return orders


def first_blocks(order: Order, count: int, shape: tuple[int, int]) -> Bits:
    """Return edge bits of a ``shape`` with the first ``count`` blocks of an order."""
    edges = np.zeros(shape, dtype=bool)
    edges.reshape(-1)[order[:count]] = True
    return edges


def _extended(order: Order, losses: NDArray[np.int64], length: int) -> Order:
    """Return an order with the blocks of the largest losses that are not in it yet, up to a length."""
    ranked = np.argsort(-losses, axis=None, kind="stable")
    return np.concatenate([order, ranked[~np.isin(ranked, order)]])[:length]


def best_seeds(
    prior: StagedPrior,
    codewords: NDArray[np.int64],
    grids: Sequence[Tokens],
    sent: Sequence[Bits],
    choice: Mask,
    progress: Progress = silent,
) -> list[int]:
    """Return for each grid the seed with which drawn tokens are nearest to the lost ones, by codewords.

    Those of :func:`seeds_from` are tried; of equals, the first wins. Drawn tokens are never fed back, so one pass
    through the prior serves all seeds.
    """
    assert choice.seed is not None
    seeds = seeds_from(choice.seed, choice.effort)
    if len(seeds) == 1:
        return [choice.seed for _ in grids]
    draws = [_Draws(grid, bits, codewords, prior) for grid, bits in zip(grids, sent, strict=True)]
    prior.regenerate(grids, sent, choice.seed, observers=[each.observer() for each in draws])
    losses = np.empty((len(seeds), len(grids)), np.int64)
    for row, seed in enumerate(seeds):
        progress("seeds", row, len(seeds))
        numbers = prior.padded(random_numbers(seed, *grids[0].shape), 0)
        losses[row] = [each.loss(numbers) for each in draws]
    progress("seeds", len(seeds), len(seeds))
    return [seeds[best] for best in losses.argmin(axis=0).tolist()]


@dataclass
class _Draws:
    """What the lost tokens of a grid may be drawn from, and how far each candidate is from the token that was lost."""

    grid: Tokens
    sent: Bits
    codewords: NDArray[np.int64]
    prior: StagedPrior
    stages: list[tuple[Cells, Candidates, NDArray[np.int32]]] = field(default_factory=list)

    def observer(self) -> Observer:
        """Return what keeps the candidates of every stage."""
        truth, known = self.prior.padded(self.grid, 0), self.prior.padded(self.sent, False)

        def observe(predictions: Predictions, rows: Rows | None, cells: Cells) -> None:
            lost = np.flatnonzero(np.logical_not(known.take(cells)))
            if len(lost):
                there = cells[lost]
                seen, model = predictions.take(lost if rows is None else rows[lost], axis=0), self.prior.model
                found = Candidates.of(model.logits(seen), model.weights)
                wanted = self.codewords[truth.take(there)][:, None]
                distances = np.square(self.codewords[found.codewords] - wanted).sum(axis=2, dtype=np.int32)
                self.stages.append((there, found, distances))

        return observe

    def loss(self, numbers: RandomNumbers) -> int:
        """Return the sum of the distances of the tokens that are drawn with random numbers for the padded grid."""
        drawn = [(distances, found.index(numbers.take(cells))) for cells, found, distances in self.stages]
        return sum(int(np.take_along_axis(each, index[:, None], axis=1).sum(dtype=np.int64)) for each, index in drawn)
