"""The staged loop: the prior's graphs in the order of the schedule, without a KV cache.

Encoder and decoder walk the very same stages over the very same inputs; they differ only in whether a token that is
sent is written or read. A token that is not sent is regenerated from the same logits and never fed back, so later
stages see it as unknown on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.coder import SymbolReader, SymbolWriter, TokenModel
from uigc.runtime.providers import Graph
from uigc.runtime.schedule import Schedule
from uigc.runtime.spans import span

Tokens = NDArray[np.int32]
Bits = NDArray[np.bool_]
Exchange = Callable[[int, NDArray[np.int32]], Tokens]
"""Stage and logits (n, codebook) of the tokens that are sent -> those tokens (n,), by writing or reading them."""
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many steps are done, and how many there are."""


def silent(label: str, done: int, total: int) -> None:
    """The progress of those who do not ask."""


def most_likely(logits: NDArray[np.int32]) -> Tokens:
    """Regeneration by argmax: logits (n, codebook) -> tokens (n,); of equals, the lowest word."""
    return logits.argmax(axis=1).astype(np.int32)


@dataclass(frozen=True)
class StagedPrior:
    """``load(stage)`` gives the graph of a stage: tokens int32 (1, H, W) -> logits int32 (1, asked, codebook)."""

    schedule: Schedule
    model: TokenModel
    window: int
    unknown: int
    pad: int
    load: Callable[[int], Graph]

    def encode(self, tokens: Tokens, sent: Bits, writer: SymbolWriter, progress: Progress = silent) -> Tokens:
        """Write the ``sent`` tokens of a grid (h, w); returns the grid that a decoder ends with."""
        padded = self._padded(tokens, self.pad)

        def exchange(stage: int, logits: NDArray[np.int32]) -> Tokens:
            chosen = self.schedule.gather(padded, stage)[self._sent(sent, stage)]
            self.model.encode(writer, logits, chosen)
            return chosen

        return self._walk(sent, exchange, progress)

    def decode(self, sent: Bits, reader: SymbolReader, progress: Progress = silent) -> Tokens:
        """Read the ``sent`` tokens and regenerate the others: grid (h, w)."""
        return self._walk(sent, lambda stage, logits: self.model.decode(reader, logits), progress)

    def cost(self, tokens: Tokens, sent: Bits) -> list[tuple[int, float]]:
        """(tokens sent, bits they cost) of each stage; for statistics."""
        padded, costs = self._padded(tokens, self.pad), []

        def exchange(stage: int, logits: NDArray[np.int32]) -> Tokens:
            chosen = self.schedule.gather(padded, stage)[self._sent(sent, stage)]
            costs.append((len(chosen), self.model.cost(logits, chosen)))
            return chosen

        self._walk(sent, exchange, silent)
        return costs

    def _walk(self, sent: Bits, exchange: Exchange, progress: Progress) -> Tokens:
        context = self._padded(np.full(sent.shape, self.unknown, dtype=np.int32), self.pad)
        result = context.copy()
        for stage in range(len(self.schedule)):
            progress("prior", stage, len(self.schedule))
            with span("stage", stage):
                self._step(stage, context, result, sent, exchange)
        progress("prior", len(self.schedule), len(self.schedule))
        return np.ascontiguousarray(result[: sent.shape[0], : sent.shape[1]])

    def _step(self, stage: int, context: Tokens, result: Tokens, sent: Bits, exchange: Exchange) -> None:
        """One stage: ``context`` gains the tokens that are sent, ``result`` those that are lost as well."""
        graph = self.load(stage)
        with span("tokens in") as step:
            tokens = context[None]
            values = self.schedule.gather(context, stage)
            known = self._sent(sent, stage)
            lost = ~known & (values == self.unknown)  # what is left of them is padding
            step.moved(tokens.nbytes)
        with span("network", runs_on=graph) as step:
            logits = graph(tokens)[0]
            step.moved(tokens.nbytes + logits.nbytes)
        with span("rows") as step:
            rows = logits[known]
            step.moved(rows.nbytes)
        values[known] = exchange(stage, rows)
        with span("tokens out"):
            self.schedule.scatter(context, stage, values)
        with span("regeneration"):
            values[lost] = most_likely(logits[lost])
        with span("tokens out"):
            self.schedule.scatter(result, stage, values)

    def _padded(self, grid: Tokens, value: int) -> Tokens:
        """A grid extended at the bottom and the right to whole windows."""
        height, width = grid.shape
        return np.pad(grid, ((0, -height % self.window), (0, -width % self.window)), constant_values=value)

    def _sent(self, sent: Bits, stage: int) -> Bits:
        return self.schedule.gather(self._padded(sent.astype(np.int32), 0), stage) == 1
