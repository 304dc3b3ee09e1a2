"""The staged loop: the prior's graphs in the order of the schedule, without a KV cache.

Encoder and decoder take the very same stages over the very same inputs; they differ only in whether a sent token is
written or read. A token that is not sent is regenerated from the same logits (``format/regeneration.py``) and never fed
back, so later stages see it as unknown on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Bits, Logits, Tokens
from uigc.runtime.errors import UigcError
from uigc.runtime.format.entropy_coder import Rows, SymbolReader, SymbolWriter, TokenEntropyModel
from uigc.runtime.format.grid import Scalar, pad_to_windows
from uigc.runtime.format.regeneration import RandomNumbers, drawn, most_likely, random_numbers
from uigc.runtime.format.schedule import Schedule
from uigc.runtime.networks.outputs import logits_of
from uigc.runtime.networks.stage_cells import Cells, StageCells, stage_cells
from uigc.runtime.networks.tiling import tiles
from uigc.runtime.outcomes import unwrap
from uigc.runtime.progress import Progress, silent
from uigc.runtime.providers import Graph
from uigc.runtime.spans import span

Exchange = Callable[[Logits, Rows | None, Cells], Tokens]
"""Called for each stage with its logits (asked, codebook), with the rows of its sent tokens, None for all, and with
their cells; writes or reads these tokens, and returns them. If a file was cut, it returns the first of them."""
Observer = Callable[[Logits, Rows | None, Cells], None]
"""Called for each stage with its logits (asked, codebook), with the rows of its tokens, None for all, and with their
cells."""


@dataclass
class Walk:
    """One image on its way through the stages; all grids are padded to whole windows, and flat but for ``context``.

    ``sent``: which tokens are in the file. ``exchange``: writes or reads them.
    ``context``: the network's input, in which lost tokens stay unknown.
    ``result``: the decoder's grid, in which lost tokens are regenerated.
    ``numbers``: the random numbers for lost tokens, None for the most likely tokens.
    ``observe``: looks at the logits of every stage.
    ``failure``: the error that ended it early.
    """

    sent: Bits
    exchange: Exchange
    context: Tokens
    result: Tokens
    numbers: RandomNumbers | None = None
    observe: Observer | None = None
    failure: UigcError | None = None

    def copy(self, exchange: Exchange) -> Walk:
        """Return another walk from here on, which leaves this one as it is."""
        context, result = self.context.copy(), self.result.copy()
        return replace(self, sent=self.sent.copy(), exchange=exchange, context=context, result=result)

    def inside(self, grid: NDArray[Scalar], shape: tuple[int, ...]) -> NDArray[Scalar]:
        """Return the part (h, w) of one of the flat grids that lies in the image."""
        height, width = shape
        return np.ascontiguousarray(grid.reshape(self.context.shape)[:height, :width])

    def receive(self, cells: Cells, tokens: Tokens) -> None:
        """Take in tokens that are sent, which are known to every later stage."""
        self.context.reshape(-1)[cells] = tokens
        self.result[cells] = tokens


@dataclass(frozen=True)
class StagedPrior:
    """The prior as encoder and decoder use it.

    ``load(stage)`` gives the graph of a stage: tokens int32 (batch, H, W) to logits int32 (batch, asked, codebook); the
    logits of an image are the same in every batch. ``window``: side of the prior's windows in tokens. ``unknown``,
    ``pad``: the tokens for what is not known and what lies outside the image. Grids of more than ``max_windows``
    windows are worked on in tiles with ``halo`` windows around them, which is as far as logits depend on others.
    """

    schedule: Schedule
    model: TokenEntropyModel
    window: int
    unknown: int
    pad: int
    load: Callable[[int], Graph]
    max_windows: int = 1 << 40
    halo: int = 0

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
        each grid, which sees the logits.
        """
        known = self.cells(grids[0].shape)[:first]

        def writing(
            tokens: Tokens, bits: Bits, writer: SymbolWriter, seed: int | None, observe: Observer | None
        ) -> Walk:
            padded = self.padded(tokens, self.pad)

            def exchange(logits: Logits, rows: Rows | None, cells: Cells) -> Tokens:
                chosen = padded.take(cells)
                self.model.encode(writer, logits, chosen, rows)
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
            return self.begin(bits, lambda logits, rows, _: self.model.decode(reader, logits, rows), seed)

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
            walk = self.begin(bits, lambda logits, rows, cells: padded.take(cells), seed, observe)
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

        def exchange(logits: Logits, rows: Rows | None, cells: Cells) -> Tokens:
            chosen = padded.take(cells)
            costs.append((len(chosen), self.model.cost(logits, chosen, rows)))
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

    def look(self, stage: int, walk: Walk) -> Logits:
        """Return the logits (asked, codebook) of a stage for one image, as far as it is known."""
        logits: Logits = self._logits(self.load(stage), walk.context[None], stage)[0]
        return logits

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
            batch = self._logits(graph, tokens, stage)
            step.moved(tokens.nbytes + batch.nbytes)
        for walk, logits in zip(walks, batch, strict=True):
            try:
                self.step(places, walk, logits)
            except UigcError as error:
                walk.failure = error

    def _logits(self, graph: Graph, tokens: Tokens, stage: int) -> NDArray[np.int32]:
        """Return the logits (batch, asked, codebook) of grids (batch, H, W), in tiles of windows if they are large."""
        batch, window = len(tokens), self.window
        tall, wide = (side // window for side in tokens.shape[1:])
        parts = tiles(tall, wide, self.max_windows // batch, self.halo, 1)
        if len(parts) == 1:
            return self._run(graph, tokens, stage)
        # Logits are in coding order: the schedule's tiles in raster order, and `each` positions inside a tile. A window
        # is `side` x `side` such tiles, so as a grid of them the inside of every part can be cut out and stitched.
        side, each = window // self.schedule.tile, len(self.schedule.stages[stage])
        stitched = np.empty((batch, tall * side, wide * side, each, self.model.codebook), np.int32)
        for rows, columns in parts:
            seen_tokens = np.ascontiguousarray(tokens[:, rows.seen(window), columns.seen(window)])
            logits = self._run(graph, seen_tokens, stage)
            seen = (rows.high - rows.low) * side, (columns.high - columns.low) * side
            inside = rows.inside(side), columns.inside(side)
            tiled = logits.reshape(batch, *seen, *stitched.shape[3:])
            stitched[:, rows.own(side), columns.own(side)] = tiled[:, *inside]
        return stitched.reshape(batch, -1, self.model.codebook)

    def _run(self, graph: Graph, tokens: Tokens, stage: int) -> NDArray[np.int32]:
        asked = tokens[0].size // self.schedule.tile**2 * len(self.schedule.stages[stage])
        return logits_of(f"stage{stage}", graph(tokens), (len(tokens), asked, self.model.codebook))

    def step(self, places: StageCells, walk: Walk, logits: Logits) -> None:
        """Take one image through a stage: its context gains the sent tokens, its result the lost ones, too."""
        if walk.observe is not None:
            walk.observe(logits, places.rows, places.cells)
        with span("rows"):
            sent, lost = places.divide(walk.sent)
            rows, cells = places.rows_of(sent), places.cells.take(sent)
        tokens = walk.exchange(logits, rows if len(rows) < len(logits) else None, cells)
        if len(tokens) < len(cells):  # the file was cut: the others are lost
            walk.sent[cells[len(tokens) :]] = False
            lost, cells = np.concatenate([lost, sent[len(tokens) :]]), cells[: len(tokens)]
        with span("tokens out"):
            walk.receive(cells, tokens)
        # Lost tokens are written into the result alone.
        with span("regeneration"):
            if len(lost):
                cells = places.cells.take(lost)
                walk.result[cells] = self._regenerated(walk, logits.take(places.rows_of(lost), axis=0), cells)

    def _regenerated(self, walk: Walk, logits: Logits, cells: Cells) -> Tokens:
        """Return the tokens that take the place of lost ones, given their logits."""
        if walk.numbers is None:
            return most_likely(logits)
        return drawn(logits, walk.numbers.take(cells), self.model.weights)
