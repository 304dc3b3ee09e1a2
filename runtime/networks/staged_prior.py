"""The staged loop: the prior's graphs in the order of the schedule, without a KV cache.

Encoder and decoder walk the very same stages over the very same inputs; they differ only in whether a token that is
sent is written or read. A token that is not sent is regenerated from the same logits (see
:mod:`uigc.runtime.format.regeneration`) and never fed back, so later stages see it as unknown on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Bits, Tokens
from uigc.runtime.errors import UigcError
from uigc.runtime.format.entropy_coder import SymbolReader, SymbolWriter, TokenEntropyModel
from uigc.runtime.format.regeneration import RandomNumbers, most_likely, random_numbers, sampled
from uigc.runtime.format.schedule import Int, Schedule
from uigc.runtime.networks.tiling import tiles
from uigc.runtime.outcomes import unwrap
from uigc.runtime.progress import Progress, silent
from uigc.runtime.providers import Graph
from uigc.runtime.spans import span

Exchange = Callable[[int, NDArray[np.int32]], Tokens]
"""Stage and logits (n, codebook) of the tokens that are sent -> those tokens (n,), by writing or reading them."""


@dataclass
class _Walk:
    """An image on its way through the stages: ``context`` is what the network sees of it, ``result`` the grid that a
    decoder ends with, and ``numbers`` what lost tokens are drawn with, if they are, all padded to whole windows;
    ``failure`` is what ended it early."""

    sent: Bits
    exchange: Exchange
    context: Tokens
    result: Tokens
    numbers: RandomNumbers | None = None
    failure: UigcError | None = None


@dataclass(frozen=True)
class StagedPrior:
    """``load(stage)`` gives the graph of a stage: tokens int32 (batch, H, W) -> logits int32
    (batch, asked, codebook); the logits of an image are the same in every batch. Of images of more than ``most``
    windows, rows of windows are worked on in turn, with ``halo`` rows around them, which is as far as their logits
    depend on others."""

    schedule: Schedule
    model: TokenEntropyModel
    window: int
    unknown: int
    pad: int
    load: Callable[[int], Graph]
    most: int = 1 << 40
    halo: int = 0

    def encode(
        self,
        tokens: Tokens,
        sent: Bits,
        writer: SymbolWriter,
        progress: Progress = silent,
        seed: int | None = None,
    ) -> Tokens:
        """Write the ``sent`` tokens of a grid (h, w); returns the grid that a decoder ends with. ``seed``: what the
        others are drawn with, None for the most likely ones."""
        return unwrap(self.encode_many([tokens], [sent], [writer], progress, seed)[0])

    def decode(self, sent: Bits, reader: SymbolReader, progress: Progress = silent, seed: int | None = None) -> Tokens:
        """Read the ``sent`` tokens and regenerate the others: grid (h, w)."""
        return unwrap(self.decode_many([sent], [reader], progress, [seed])[0])

    def encode_many(
        self,
        grids: Sequence[Tokens],
        sent: Sequence[Bits],
        writers: Sequence[SymbolWriter],
        progress: Progress = silent,
        seed: int | None = None,
    ) -> list[Tokens | UigcError]:
        """As :meth:`encode` for several grids of one size, in one batch."""

        def writing(tokens: Tokens, bits: Bits, writer: SymbolWriter) -> _Walk:
            padded = self._padded(tokens, self.pad)

            def exchange(stage: int, logits: NDArray[np.int32]) -> Tokens:
                chosen = self.schedule.gather(padded, stage)[self._sent(bits, stage)]
                self.model.encode(writer, logits, chosen)
                return chosen

            return self._begin(bits, exchange, seed)

        return self._walk([writing(*image) for image in zip(grids, sent, writers, strict=True)], progress)

    def decode_many(
        self,
        sent: Sequence[Bits],
        readers: Sequence[SymbolReader],
        progress: Progress = silent,
        seeds: Sequence[int | None] | None = None,
    ) -> list[Tokens | UigcError]:
        """As :meth:`decode` for several grids of one size, in one batch; an error in the place of a grid that does not
        decode, which keeps none of the others from it."""

        def reading(bits: Bits, reader: SymbolReader, seed: int | None) -> _Walk:
            return self._begin(bits, lambda stage, logits: self.model.decode(reader, logits), seed)

        seeds = [None] * len(sent) if seeds is None else seeds
        return self._walk([reading(*image) for image in zip(sent, readers, seeds, strict=True)], progress)

    def regenerate(self, grids: Sequence[Tokens], sent: Sequence[Bits], seed: int | None = None) -> list[Tokens]:
        """The grids (h, w), of one size, that decoders would end with if the ``sent`` tokens of each were sent."""
        first = self._first_lost(sent)

        def showing(tokens: Tokens, bits: Bits) -> _Walk:
            padded = self._padded(tokens, self.pad)
            walk = self._begin(
                bits, lambda stage, _: self.schedule.gather(padded, stage)[self._sent(bits, stage)], seed
            )
            for stage in range(first):
                values = self.schedule.gather(padded, stage)
                self.schedule.scatter(walk.context, stage, values)
                self.schedule.scatter(walk.result, stage, values)
            return walk

        walks = [showing(*image) for image in zip(grids, sent, strict=True)]
        return [unwrap(end) for end in self._walk(walks, silent, first)]

    def _first_lost(self, sent: Sequence[Bits]) -> int:
        """The first stage of which not all tokens are sent: what comes before need not be predicted to be known."""
        lost = [self._padded((~bits).astype(np.int32), 0) for bits in sent]
        stages = range(len(self.schedule))
        return next((k for k in stages if any(self.schedule.gather(grid, k).any() for grid in lost)), len(stages))

    def cost(self, tokens: Tokens, sent: Bits) -> list[tuple[int, float]]:
        """(tokens sent, bits they cost) of each stage; for statistics."""
        padded, costs = self._padded(tokens, self.pad), []

        def exchange(stage: int, logits: NDArray[np.int32]) -> Tokens:
            chosen = self.schedule.gather(padded, stage)[self._sent(sent, stage)]
            costs.append((len(chosen), self.model.cost(logits, chosen)))
            return chosen

        self._walk([self._begin(sent, exchange, None)], silent)
        return costs

    def _begin(self, sent: Bits, exchange: Exchange, seed: int | None) -> _Walk:
        context = self._padded(np.full(sent.shape, self.unknown, dtype=np.int32), self.pad)
        drawn_with = None if seed is None else self._padded(random_numbers(seed, *sent.shape), 0)
        return _Walk(sent, exchange, context, context.copy(), drawn_with)

    def _walk(self, walks: list[_Walk], progress: Progress, first: int = 0) -> list[Tokens | UigcError]:
        """All stages of all images from the ``first`` on; what an image fails with takes the place of its grid."""
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
        """Logits (batch, asked, codebook) of grids (batch, H, W), in parts if they are large."""
        batch, window = len(tokens), self.window
        tall, wide = (side // window for side in tokens.shape[1:])
        parts = tiles(tall, wide, self.most // batch, self.halo, 1)
        if len(parts) == 1:
            return graph(tokens)
        side, each = window // self.schedule.tile, len(self.schedule.stages[stage])
        stitched = np.empty((batch, tall * side, wide * side, each, self.model.codebook), np.int32)
        for rows, columns in parts:
            logits = graph(np.ascontiguousarray(tokens[:, rows.seen(window), columns.seen(window)]))
            seen = (rows.high - rows.low) * side, (columns.high - columns.low) * side
            inside = rows.inside(side), columns.inside(side)
            stitched[:, rows.own(side), columns.own(side)] = logits.reshape(batch, *seen, *stitched.shape[3:])[
                :, *inside
            ]
        return stitched.reshape(batch, -1, self.model.codebook)

    def _step(self, stage: int, walk: _Walk, logits: NDArray[np.int32]) -> None:
        """One image's stage: its context gains the tokens that are sent, its result those that are lost as well."""
        with span("rows") as step:
            values = self.schedule.gather(walk.context, stage)
            known = self._sent(walk.sent, stage)
            lost = ~known & (values == self.unknown)  # what is left of them is padding
            rows = logits[known]
            step.moved(rows.nbytes)
        values[known] = walk.exchange(stage, rows)
        with span("tokens out"):
            self.schedule.scatter(walk.context, stage, values)
        with span("regeneration"):
            values[lost] = self._regenerated(stage, walk, logits, lost)
        with span("tokens out"):
            self.schedule.scatter(walk.result, stage, values)

    def _regenerated(self, stage: int, walk: _Walk, logits: NDArray[np.int32], lost: Bits) -> Tokens:
        """The ``lost`` tokens of a stage."""
        if walk.numbers is None:
            return most_likely(logits[lost])
        return sampled(logits[lost], self.schedule.gather(walk.numbers, stage)[lost], self.model.weights)

    def _padded(self, grid: NDArray[Int], value: int) -> NDArray[Int]:
        """A grid extended at the bottom and the right to whole windows."""
        height, width = grid.shape
        padded = np.full((height + -height % self.window, width + -width % self.window), value, dtype=grid.dtype)
        padded[:height, :width] = grid
        return padded

    def _sent(self, sent: Bits, stage: int) -> Bits:
        return self.schedule.gather(self._padded(sent.astype(np.int32), 0), stage) == 1
