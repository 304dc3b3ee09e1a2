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

from uigc.runtime.arrays import Bits, Tokens
from uigc.runtime.errors import UigcError
from uigc.runtime.format.entropy_coder import SymbolReader, SymbolWriter, TokenEntropyModel
from uigc.runtime.format.grid import pad_to_windows
from uigc.runtime.format.regeneration import RandomNumbers, most_likely, random_numbers, sampled
from uigc.runtime.format.schedule import Schedule
from uigc.runtime.networks.outputs import logits_of
from uigc.runtime.networks.tiling import tiles
from uigc.runtime.outcomes import unwrap
from uigc.runtime.progress import Progress, silent
from uigc.runtime.providers import Graph
from uigc.runtime.spans import span

Exchange = Callable[[int, NDArray[np.int32]], Tokens]
"""Called with a stage and the logits (n, codebook) of its sent tokens; writes or reads them, and returns them."""
Observer = Callable[[int, NDArray[np.int32]], None]
"""Called with a stage and the logits (n, codebook) of all its positions, in coding order."""


@dataclass
class _Walk:
    """One image on its way through the stages; all grids are padded to whole windows.

    ``sent``: which tokens are in the file (not padded). ``exchange``: writes or reads them.
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
        seed: int | None = None,
        *,
        first: int = 0,
        observers: Sequence[Observer | None] | None = None,
    ) -> list[Tokens | UigcError]:
        """Write the ``sent`` tokens of grids (h, w) of one shape, in one batch; return the grids of their decoders.

        ``seed``: the seed to sample lost tokens with, None for the most likely ones. ``first``: the stage to begin
        with; the tokens of earlier ones, which must all be sent, are taken as written. ``observers``: one for each
        grid, which sees the logits.
        """

        def writing(tokens: Tokens, bits: Bits, writer: SymbolWriter, observe: Observer | None) -> _Walk:
            padded = pad_to_windows(tokens, self.window, self.pad)

            def exchange(stage: int, logits: NDArray[np.int32]) -> Tokens:
                chosen = self.schedule.gather(padded, stage)[self._sent(bits, stage)]
                self.model.encode(writer, logits, chosen)
                return chosen

            walk = self._begin(bits, exchange, seed, observe)
            self._show(walk, padded, first)
            return walk

        observers = [None] * len(grids) if observers is None else observers
        walks = [writing(*image) for image in zip(grids, sent, writers, observers, strict=True)]
        return self._walk(walks, progress, first)

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

        def reading(bits: Bits, reader: SymbolReader, seed: int | None) -> _Walk:
            return self._begin(bits, lambda stage, logits: self.model.decode(reader, logits), seed)

        seeds = [None] * len(sent) if seeds is None else seeds
        return self._walk([reading(*image) for image in zip(sent, readers, seeds, strict=True)], progress)

    def regenerate(self, grids: Sequence[Tokens], sent: Sequence[Bits], seed: int | None = None) -> list[Tokens]:
        """Return the grids (h, w) that decoders would end with if the ``sent`` tokens of ``grids`` were sent."""
        first = self._first_lost(sent)

        def showing(tokens: Tokens, bits: Bits) -> _Walk:
            padded = pad_to_windows(tokens, self.window, self.pad)
            walk = self._begin(
                bits, lambda stage, _: self.schedule.gather(padded, stage)[self._sent(bits, stage)], seed
            )
            self._show(walk, padded, first)
            return walk

        walks = [showing(*image) for image in zip(grids, sent, strict=True)]
        return [unwrap(end) for end in self._walk(walks, silent, first)]

    def _first_lost(self, sent: Sequence[Bits]) -> int:
        """Return the first stage with a lost token: the tokens of earlier stages are known without a prediction."""
        lost = [pad_to_windows((~bits).astype(np.int32), self.window, 0) for bits in sent]
        stages = range(len(self.schedule))
        return next((k for k in stages if any(self.schedule.gather(grid, k).any() for grid in lost)), len(stages))

    def cost(self, tokens: Tokens, sent: Bits) -> list[tuple[int, float]]:
        """Return for each stage the number of its sent tokens and the bits that they cost; for statistics."""
        padded, costs = pad_to_windows(tokens, self.window, self.pad), []

        def exchange(stage: int, logits: NDArray[np.int32]) -> Tokens:
            chosen = self.schedule.gather(padded, stage)[self._sent(sent, stage)]
            costs.append((len(chosen), self.model.cost(logits, chosen)))
            return chosen

        self._walk([self._begin(sent, exchange, None)], silent)
        return costs

    def _show(self, walk: _Walk, tokens: Tokens, first: int) -> None:
        """Let the decoder know the padded ``tokens`` of the stages before ``first``."""
        for stage in range(first):
            values = self.schedule.gather(tokens, stage)
            self.schedule.scatter(walk.context, stage, values)
            self.schedule.scatter(walk.result, stage, values)

    def _begin(self, sent: Bits, exchange: Exchange, seed: int | None, observe: Observer | None = None) -> _Walk:
        """Start a walk on which nothing is known yet."""
        context = pad_to_windows(np.full(sent.shape, self.unknown, dtype=np.int32), self.window, self.pad)
        chances = None if seed is None else pad_to_windows(random_numbers(seed, *sent.shape), self.window, 0)
        return _Walk(sent, exchange, context, context.copy(), chances, observe)

    def _walk(self, walks: list[_Walk], progress: Progress, first: int = 0) -> list[Tokens | UigcError]:
        """Take all images through the stages from ``first`` on; return each one's grid (h, w), or its error."""
        for stage in range(first, len(self.schedule)):
            progress("prior", stage, len(self.schedule))
            going = [walk for walk in walks if walk.failure is None]
            if going:
                with span("stage", stage):
                    self._stage(stage, going)
        progress("prior", len(self.schedule), len(self.schedule))
        return [
            walk.failure or np.ascontiguousarray(walk.result[: walk.sent.shape[0], : walk.sent.shape[1]])
            for walk in walks
        ]

    def _stage(self, stage: int, walks: list[_Walk]) -> None:
        """Take all images through one stage: one call of the network, then each image by itself."""
        graph = self.load(stage)
        with span("tokens in") as step:
            tokens = np.stack([walk.context for walk in walks])
            step.moved(tokens.nbytes)
        with span("network", runs_on=graph) as step:
            batch = self._logits(graph, tokens, stage)
            step.moved(tokens.nbytes + batch.nbytes)
        for walk, logits in zip(walks, batch, strict=True):
            try:
                self._step(stage, walk, logits)
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

    def _step(self, stage: int, walk: _Walk, logits: NDArray[np.int32]) -> None:
        """Take one image through a stage: its context gains the sent tokens, its result the lost ones, too."""
        if walk.observe is not None:
            walk.observe(stage, logits)
        with span("rows") as step:
            # Each of the stage's tokens is sent, lost, or padding.
            values = self.schedule.gather(walk.context, stage)
            known = self._sent(walk.sent, stage)
            lost = ~known & (values == self.unknown)
            rows = logits[known]
            step.moved(rows.nbytes)
        # Sent tokens are known to every later stage. Lost ones are written into the result alone.
        values[known] = walk.exchange(stage, rows)
        with span("tokens out"):
            self.schedule.scatter(walk.context, stage, values)
        with span("regeneration"):
            values[lost] = self._regenerated(stage, walk, logits, lost)
        with span("tokens out"):
            self.schedule.scatter(walk.result, stage, values)

    def _regenerated(self, stage: int, walk: _Walk, logits: NDArray[np.int32], lost: Bits) -> Tokens:
        """Return the tokens that take the place of the ``lost`` ones of a stage."""
        if walk.numbers is None:
            return most_likely(logits[lost])
        return sampled(logits[lost], self.schedule.gather(walk.numbers, stage)[lost], self.model.weights)

    def _sent(self, sent: Bits, stage: int) -> Bits:
        """Return which tokens (n,) of a stage are sent, in coding order."""
        return self.schedule.gather(pad_to_windows(sent.astype(np.int32), self.window, 0), stage) == 1
