"""The staged loop: the prior's graphs in the order of the schedule, without a KV cache.

Encoder and decoder take the very same stages over the very same inputs; they differ only in whether a sent token is
written or read. A token that is not sent is regenerated from the same logits (``format/regeneration.py``) and never fed
back, so later stages see it as unknown on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Bits, Predictions, Tokens
from uigc.runtime.errors import UigcError
from uigc.runtime.format.entropy_coder import Rows, TokenEntropyModel
from uigc.runtime.format.grid import Scalar, pad_to_windows
from uigc.runtime.format.range_coder import SymbolReader, SymbolWriter
from uigc.runtime.format.regeneration import drawn, most_likely, random_numbers
from uigc.runtime.format.schedule import Schedule
from uigc.runtime.networks.outputs import predictions_of
from uigc.runtime.networks.stage_cells import Cells, StageCells, stage_cells
from uigc.runtime.networks.tiling import tiles
from uigc.runtime.networks.walk import Exchange, Observer, Walk
from uigc.runtime.outcomes import unwrap
from uigc.runtime.progress import Progress, silent
from uigc.runtime.providers import Graph
from uigc.runtime.spans import span


@dataclass(frozen=True)
class StagedPrior:
    """The prior as encoder and decoder use it.

    ``load(stage)`` gives the graph of a stage: tokens int32 (batch, H, W) to predictions int32 (batch, asked, columns),
    for an image the same in every batch; they are logits alone unless it ``has_sums``. ``window``: side of the prior's
    windows in tokens. ``unknown``, ``pad``: the tokens for what is not known and what lies outside the image. Grids of
    more than ``max_windows`` windows are worked on in tiles with ``halo`` windows around them, which is as far as
    logits depend on others.
    """

    schedule: Schedule
    model: TokenEntropyModel
    window: int
    unknown: int
    pad: int
    load: Callable[[int], Graph]
    max_windows: int = 1 << 40
    halo: int = 0
    has_sums: bool = False

    def encode_many(
        self,
        grids: Sequence[Tokens],
        sent: Sequence[Bits],
        writers: Sequence[SymbolWriter],
        progress: Progress = silent,
        seeds: Sequence[int | None] | None = None,
        *,
        first: int = 0,
        observers: Sequence[Observer | None] | None = None,
    ) -> list[Tokens | UigcError]:
        """Write the ``sent`` tokens of grids (h, w) of one shape, in one batch; return the grids of their decoders.

        ``seeds``: the seed of each grid to draw lost tokens with, None for the most likely ones. ``first``: the stage
        to begin with; the tokens of earlier ones, which must all be sent, are taken as written. ``observers``: one for
        each grid, which sees the predictions.
        """
        known = self.cells(grids[0].shape)[:first]

        def writing(
            tokens: Tokens, bits: Bits, writer: SymbolWriter, seed: int | None, observe: Observer | None
        ) -> Walk:
            padded = self.padded(tokens, self.pad)

            def exchange(predictions: Predictions, rows: Rows | None, cells: Cells) -> Tokens:
                chosen = padded.take(cells)
                self.model.encode(writer, predictions, chosen, rows)
                return chosen

            walk = self.begin(bits, exchange, seed, observe)
            self._show(walk, padded, known)
            return walk

        seeds, observers = seeds or [None] * len(grids), observers or [None] * len(grids)
        walks = [writing(*image) for image in zip(grids, sent, writers, seeds, observers, strict=True)]
        return self._walk(walks, grids[0].shape, progress, first)

    def decode_many(
        self,
        sent: Sequence[Bits],
        readers: Sequence[SymbolReader],
        progress: Progress = silent,
        seeds: Sequence[int | None] | None = None,
    ) -> list[Tokens | UigcError]:
        """Read the ``sent`` tokens of grids of one shape, in one batch, and regenerate the others: grids (h, w).

        A grid that does not decode is replaced by its error and stops no other. ``seeds``: see :meth:`encode_many`.
        """

        def reading(bits: Bits, reader: SymbolReader, seed: int | None) -> Walk:
            return self.begin(bits, lambda seen, rows, _: self.model.decode(reader, seen, rows), seed)

        seeds = [None] * len(sent) if seeds is None else seeds
        walks = [reading(*image) for image in zip(sent, readers, seeds, strict=True)]
        return self._walk(walks, sent[0].shape, progress)

    def regenerate(
        self,
        grids: Sequence[Tokens],
        sent: Sequence[Bits],
        seed: int | None = None,
        *,
        observers: Sequence[Observer | None] | None = None,
    ) -> list[Tokens]:
        """Return the grids (h, w) that decoders would end with if the ``sent`` tokens of ``grids`` were sent.

        ``observers``: as of :meth:`encode_many`, of the stages with lost tokens.
        """
        shape = grids[0].shape
        stages = self.cells(shape)
        first = self._first_lost(sent)

        def showing(tokens: Tokens, bits: Bits, observe: Observer | None) -> Walk:
            padded = self.padded(tokens, self.pad)
            walk = self.begin(bits, lambda _, rows, cells: padded.take(cells), seed, observe)
            self._show(walk, padded, stages[:first])
            return walk

        watching = observers or [None] * len(grids)
        walks = [showing(*image) for image in zip(grids, sent, watching, strict=True)]
        return [unwrap(end) for end in self._walk(walks, shape, silent, first)]

    def _first_lost(self, sent: Sequence[Bits]) -> int:
        """Return the first stage with a lost token: the tokens of earlier stages are known without a prediction."""
        flags, stages = [self.padded(bits, False) for bits in sent], self.cells(sent[0].shape)
        lost = (k for k, stage in enumerate(stages) if not all(each.take(stage.cells).all() for each in flags))
        return next(lost, len(stages))

    def cost(self, tokens: Tokens, sent: Bits) -> list[tuple[int, float]]:
        """Return for each stage the number of its sent tokens and the bits that they cost; for statistics."""
        padded, costs = self.padded(tokens, self.pad), []

        def exchange(predictions: Predictions, rows: Rows | None, cells: Cells) -> Tokens:
            chosen = padded.take(cells)
            costs.append((len(chosen), self.model.cost(predictions, chosen, rows)))
            return chosen

        self._walk([self.begin(sent, exchange, None)], tokens.shape, silent)
        return costs

    def cells(self, shape: tuple[int, ...]) -> tuple[StageCells, ...]:
        """Return where the tokens of every stage lie in grids of a shape (h, w)."""
        return stage_cells(self.schedule, *shape, self.window)

    def padded(self, grid: NDArray[Scalar], value: int) -> NDArray[Scalar]:
        """Extend a grid (h, w) to whole windows, and return it flat."""
        return pad_to_windows(grid, self.window, value).reshape(-1)

    @staticmethod
    def _show(walk: Walk, tokens: Tokens, stages: Sequence[StageCells]) -> None:
        """Let the decoder know the ``tokens`` of some stages, from a grid that is padded and flat."""
        for stage in stages:
            walk.receive(stage.cells, tokens.take(stage.cells))

    def look(self, stage: int, walk: Walk) -> Predictions:
        """Return the predictions (asked, columns) of a stage for one image, as far as it is known."""
        predictions: Predictions = self._predictions(self.load(stage), walk.context[None], stage)[0]
        return predictions

    def begin(self, sent: Bits, exchange: Exchange, seed: int | None, observe: Observer | None = None) -> Walk:
        """Start a walk on which nothing is known yet."""
        context = pad_to_windows(np.full(sent.shape, self.unknown, dtype=np.int32), self.window, self.pad)
        chances = None if seed is None else self.padded(random_numbers(seed, *sent.shape), 0)
        return Walk(self.padded(sent, False), exchange, context, context.flatten(), chances, observe)

    def _walk(
        self, walks: list[Walk], shape: tuple[int, ...], progress: Progress, first: int = 0
    ) -> list[Tokens | UigcError]:
        """Take images with grids of a shape (h, w) through the stages from ``first`` on; return each one's grid, or its
        error."""
        stages = self.cells(shape)
        for stage in range(first, len(stages)):
            progress("prior", stage, len(stages))
            going = [walk for walk in walks if walk.failure is None]
            if going:
                with span("stage", stage):
                    self._stage(stage, stages[stage], going)
        progress("prior", len(stages), len(stages))
        return [walk.failure or walk.inside(walk.result, shape) for walk in walks]

    def _stage(self, stage: int, places: StageCells, walks: list[Walk]) -> None:
        """Take all images through one stage: one call of the network, then each image by itself."""
        graph = self.load(stage)
        with span("tokens in") as step:
            tokens = np.array([walk.context for walk in walks])
            step.moved(tokens.nbytes)
        with span("network", runs_on=graph) as step:
            batch = self._predictions(graph, tokens, stage)
            step.moved(tokens.nbytes + batch.nbytes)
        for walk, predictions in zip(walks, batch, strict=True):
            try:
                self.step(places, walk, predictions)
            except UigcError as error:
                walk.failure = error

    @property
    def _columns(self) -> int:
        return self.model.columns if self.has_sums else self.model.codebook

    def _predictions(self, graph: Graph, tokens: Tokens, stage: int) -> NDArray[np.int32]:
        """Return what is predicted (batch, asked, columns) for grids (batch, H, W); large ones in tiles of windows."""
        batch, window = len(tokens), self.window
        tall, wide = (side // window for side in tokens.shape[1:])
        parts = tiles(tall, wide, self.max_windows // batch, self.halo, 1)
        if len(parts) == 1:
            return self._run(graph, tokens, stage)
        # Rows are in coding order: the schedule's tiles in raster order, and `each` positions inside a tile. A window
        # is `side` x `side` such tiles, so as a grid of them the inside of every part can be cut out and stitched.
        side, each = window // self.schedule.tile, len(self.schedule.stages[stage])
        stitched = np.empty((batch, tall * side, wide * side, each, self._columns), np.int32)
        for rows, columns in parts:
            seen_tokens = np.ascontiguousarray(tokens[:, rows.seen(window), columns.seen(window)])
            predictions = self._run(graph, seen_tokens, stage)
            seen = (rows.high - rows.low) * side, (columns.high - columns.low) * side
            inside = rows.inside(side), columns.inside(side)
            tiled = predictions.reshape(batch, *seen, *stitched.shape[3:])
            stitched[:, rows.own(side), columns.own(side)] = tiled[:, *inside]
        return stitched.reshape(batch, -1, self._columns)

    def _run(self, graph: Graph, tokens: Tokens, stage: int) -> NDArray[np.int32]:
        asked = tokens[0].size // self.schedule.tile**2 * len(self.schedule.stages[stage])
        return predictions_of(f"stage{stage}", graph(tokens), (len(tokens), asked, self._columns), self.model.codebook)

    def step(self, places: StageCells, walk: Walk, predictions: Predictions) -> None:
        """Take one image through a stage: its context gains the sent tokens, its result the lost ones, too."""
        if walk.observe is not None:
            walk.observe(predictions, places.rows, places.cells)
        with span("rows"):
            sent, lost = places.divide(walk.sent)
            rows, cells = places.rows_of(sent), places.cells.take(sent)
        tokens = walk.exchange(predictions, rows if len(rows) < len(predictions) else None, cells)
        if len(tokens) < len(cells):  # the file was cut: the others are lost
            walk.sent[cells[len(tokens) :]] = False
            lost, cells = np.concatenate([lost, sent[len(tokens) :]]), cells[: len(tokens)]
        with span("tokens out"):
            walk.receive(cells, tokens)
        # Lost tokens are written into the result alone.
        with span("regeneration"):
            if len(lost):
                cells = places.cells.take(lost)
                walk.result[cells] = self._regenerated(walk, predictions.take(places.rows_of(lost), axis=0), cells)

    def _regenerated(self, walk: Walk, predictions: Predictions, cells: Cells) -> Tokens:
        """Return the tokens that take the place of lost ones, given what is predicted for them."""
        logits = self.model.logits(predictions)
        return (
            most_likely(logits) if walk.numbers is None else drawn(logits, walk.numbers.take(cells), self.model.weights)
        )
