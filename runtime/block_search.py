"""The encoder's search, by effort: for the blocks that a decoder would miss most, and for the seed of what it draws.

Whatever it finds, decoders take the same time, and are the same. It counts in integers, so that every machine writes
the same file of the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Bits, Logits, Tokens
from uigc.runtime.format import mask
from uigc.runtime.format.block_choice import block_losses
from uigc.runtime.format.entropy_coder import Rows
from uigc.runtime.format.grid import pad_to_windows
from uigc.runtime.format.mask import Mask
from uigc.runtime.format.regeneration import SEEDS, Candidates, random_numbers
from uigc.runtime.networks.stage_cells import Cells
from uigc.runtime.networks.staged_prior import Observer, StagedPrior
from uigc.runtime.progress import Progress, silent

Order = NDArray[np.int64]
"""The numbers (n,) of all blocks of a grid in raster order, those that a decoder would miss most first."""


def tries(effort: int) -> int:
    """Return the number of parts that blocks are ranked in, and of seeds: 1, 2, 4 ... 256 for the efforts 1 to 9."""
    return 1 << (effort - 1)


def ranked_blocks(
    prior: StagedPrior,
    codewords: NDArray[np.int64],
    grids: Sequence[Tokens],
    regenerated: Sequence[Tokens],
    choice: Mask,
    *,
    needed: int | None = None,
    progress: Progress = silent,
) -> list[Order]:
    """Return the order of the blocks of each grid (h, w); all grids have one shape.

    ``regenerated``: what comes back if no block is sent. With effort 1, it ranks all blocks. With more, it ranks the
    first part of them alone; the next part is ranked by what comes back once the blocks before it are sent, because
    some losses mend themselves when their surroundings are known. The blocks before a block never depend on those after
    it, so that a file with more blocks has all those of a file with fewer.

    ``needed``: how many blocks will be sent at most, None for all of them; what comes after is ranked as it is.
    """
    shape = mask.block_shape(*grids[0].shape)
    count = shape[0] * shape[1]
    parts = min(tries(choice.effort), count)
    orders = [np.empty(0, np.int64) for _ in grids]
    for part in range(1, parts + 1):
        progress("blocks", part - 1, parts)
        end = count * part // parts
        done = part == parts or (needed is not None and end >= needed)
        orders = [
            _extended(order, block_losses(grid, back, codewords), count if done else end)
            for order, grid, back in zip(orders, grids, regenerated, strict=True)
        ]
        if done:
            break
        edges = [first_blocks(order, end, shape) for order in orders]
        sent = [mask.sent_tokens(choice.mode, each, prior.schedule, *grids[0].shape) for each in edges]
        regenerated = prior.regenerate(grids, sent, choice.seed)
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
    prior: StagedPrior, codewords: NDArray[np.int64], grids: Sequence[Tokens], sent: Sequence[Bits], choice: Mask
) -> list[int]:
    """Return for each grid the seed with which drawn tokens are nearest to the lost ones, by codewords.

    As many seeds as the effort says are tried, from that of ``choice`` on; after the last comes 0. Of equals, the first
    wins. Drawn tokens are never fed back, so one pass through the prior serves all seeds.
    """
    assert choice.seed is not None
    seeds = [(choice.seed + number) % SEEDS for number in range(tries(choice.effort))]
    if len(seeds) == 1:
        return [choice.seed for _ in grids]
    losses = [np.zeros(len(seeds), np.int64) for _ in grids]
    watching = [_observer(prior, codewords, *image, seeds) for image in zip(grids, sent, losses, strict=True)]
    prior.regenerate(grids, sent, choice.seed, observers=watching)
    return [seeds[int(loss.argmin())] for loss in losses]


def _observer(
    prior: StagedPrior,
    codewords: NDArray[np.int64],
    grid: Tokens,
    sent: Bits,
    losses: NDArray[np.int64],
    seeds: list[int],
) -> Observer:
    """Return what adds the losses (seeds,) of a stage's lost tokens, for each seed that they may be drawn with."""

    def padded(values: NDArray[np.generic]) -> NDArray[np.generic]:
        return pad_to_windows(values, prior.window, 0).reshape(-1)

    numbers = [padded(random_numbers(seed, *grid.shape)) for seed in seeds]
    truth, known = padded(grid), padded(sent)

    def observe(logits: Logits, rows: Rows | None, cells: Cells) -> None:
        lost = np.logical_not(known.take(cells))
        if not lost.any():
            return
        there = cells[lost]
        candidates = Candidates.of(logits[lost] if rows is None else logits[rows[lost]], prior.model.weights)
        wanted = codewords[truth.take(there)]
        for index, chances in enumerate(numbers):
            losses[index] += np.square(codewords[candidates.drawn(chances.take(there))] - wanted).sum()

    return observe
