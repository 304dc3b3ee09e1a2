"""From integer logits to the tables of the range coder, and tokens to bits and back under them.

All inputs of the coder are integers that any language can reproduce; ``docs/FORMAT.md`` states them step by step. A
token is coded as two digits, high then low: one table over 1024 codewords costs a sequential sum of 1024 numbers for
each token, two tables over 32 digits do not, and their product is the same distribution.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Logits, Predictions
from uigc.runtime.format.range_coder import TOTAL, SymbolReader, Symbols, SymbolWriter, inexact
from uigc.runtime.spans import span

LOGIT_STEPS = 32  # logits are integers in steps of 1/32 nat
FARTHEST = 448  # steps, or 14 nats; logits farther below the best are treated alike
ROWS = 32  # rows of logits that are processed at a time
LARGEST_WEIGHT = (1 << 19) - 1
SUMMED_EXACTLY = 32  # weights, whose sum float32 holds in its 24 bits

EXACT_QUOTIENTS = 1 << 29
"""For sums W[k] below this, floors of quotients are exact in float64: the numerator is below 2^53, so the quotient is
rounded once, by at most 2^-30 as it is below 2^24; and one that is no integer is more than 2^-29 below the next."""

Weights = NDArray[np.int32] | NDArray[np.int64] | NDArray[np.float32] | NDArray[np.float64]
"""Whole numbers, whatever their type."""
Rows = NDArray[np.intp]
_High = tuple[Weights, Logits]


def weight_table() -> NDArray[np.int32]:
    """Return the weight of a logit by its distance d (0..448) below the best: 2^19 * exp(-d / 32), at least 1.

    Shape (449,). The exporter writes the table into the bundle, where it is data: no decoder computes an exponential.
    """
    exact = [LARGEST_WEIGHT * math.exp(-distance / LOGIT_STEPS) for distance in range(FARTHEST + 1)]
    return np.array([max(1, round(value)) for value in exact], dtype=np.int32)


def low_digits(codebook: int) -> int:
    """Return the number of low digits: a power of two, about the square root of the codebook size."""
    return 1 << ((codebook.bit_length() - 1) // 2)


def frequencies(weights: Weights) -> NDArray[np.float32]:
    """Turn weights (n, k), whole numbers >= 1 whose rows sum to less than 2^31, into the tables for constriction.

    The frequencies of a row are the differences of ``C[i] = floor(W[i] * (2^24 - k) / W[k]) + i`` with W the cumulative
    weights, so each is at least 1 and they sum to 2^24. Returned is frequency - 1: the library scales a row by
    (2^24 - k) / sum = 1 and adds the 1 back, so it codes with exactly this table.
    """
    return _tables(weights)[0]


def _tables(weights: Weights) -> tuple[NDArray[np.float32], Weights]:
    """Return what :func:`frequencies` does, and the sum of each row (n,)."""
    count = weights.shape[1]
    sums = np.add.accumulate(weights, axis=1, dtype=np.float64 if weights.dtype.kind == "f" else weights.dtype)
    totals = sums[:, -1:]
    if totals.max(initial=0) < EXACT_QUOTIENTS:
        cumulative = np.multiply(sums, TOTAL - count, dtype=np.float64)
        cumulative /= totals
        np.floor(cumulative, out=cumulative)
    else:
        cumulative = sums.astype(np.int64) * (TOTAL - count) // totals.astype(np.int64)
    tables = np.empty(weights.shape, dtype=np.float32)
    flat = cumulative.reshape(-1)  # in one row, which is faster; where rows meet, the first column is set instead
    np.subtract(flat[1:], flat[:-1], out=tables.reshape(-1)[1:], casting="unsafe")
    tables[:, 0] = cumulative[:, 0]
    return tables, totals[:, 0]


class _Scratch(threading.local):
    """Memory of one thread for a few rows of logits, which is touched again and again and stays in the cache."""

    def __init__(self, codebook: int, dtype: np.dtype[Any]) -> None:
        self.logits = np.empty((ROWS, codebook), dtype=np.int32)
        self.distance = np.empty((ROWS, codebook), dtype=np.intp)
        self.weights = np.empty((ROWS, codebook), dtype=dtype)


class TokenEntropyModel:
    """The distribution of tokens under what the prior predicts, for one codebook size and one weight table.

    Predictions have ``codebook`` or ``columns`` columns (see :data:`uigc.runtime.arrays.Predictions`). ``rows``, where
    it is given, says under which of their rows the tokens are, one after the other.
    """

    def __init__(self, table: NDArray[np.int32], codebook: int) -> None:
        self.codebook, self.low, self.weights = codebook, low_digits(codebook), table
        self.high = codebook // self.low
        self.columns = codebook + self.high + 1
        # Floats that hold integers exactly: the sums of up to 32 weights below 2^19 fit float32's 24 bits.
        self._table = table.astype(np.float32 if self.low <= SUMMED_EXACTLY else np.float64)
        self._scratch = _Scratch(codebook, self._table.dtype)

    def _high(self, predictions: Predictions, rows: Rows | None) -> _High:
        """Return the weights (n, high digits), sums over the low digits, and the largest logits (n, 1)."""
        if predictions.shape[1] == self.codebook:
            return self._summed(predictions, rows)
        behind = predictions[:, self.codebook :]
        behind = behind if rows is None else behind[rows]
        return behind[:, :-1], behind[:, -1:]

    def logits(self, predictions: Predictions) -> Logits:
        """Return the logits (..., codebook) among predictions (..., columns).

        Raises an :class:`InexactError` if the largest ones are not those that the predictions state.
        """
        logits = predictions[..., : self.codebook]
        if predictions.shape[-1] > self.codebook and (logits.max(axis=-1) != predictions[..., -1]).any():
            raise inexact("The largest logits that a stage returned are others than it stated")
        return logits

    def _summed(self, logits: Logits, rows: Rows | None) -> _High:
        """Compute what :meth:`_high` returns from logits (any, codebook)."""
        count, scratch = len(logits) if rows is None else len(rows), self._scratch
        sums = np.empty((count, self.high), dtype=self._table.dtype)
        best = np.empty((count, 1), dtype=np.int32)
        for begin in range(0, count, ROWS):
            few = slice(begin, min(begin + ROWS, count))
            size = few.stop - begin
            far, taken, chosen = scratch.distance[:size], scratch.weights[:size], scratch.logits[:size]
            # Not mode="raise", which would fill another array first.
            part = logits[few] if rows is None else logits.take(rows[few], axis=0, out=chosen, mode="clip")
            part.max(axis=1, keepdims=True, out=best[few])
            np.subtract(best[few], part, out=far)
            self._table.take(far, out=taken, mode="clip")  # beyond the table's end: its last weight
            np.einsum("nhl->nh", taken.reshape(size, -1, self.low), out=sums[few])
        return sums, best

    def _low(self, predictions: Predictions, rows: Rows | None, high: Symbols, best: Logits) -> NDArray[np.int32]:
        """Return the weights (n, low digits), given the high digits (n,) and the largest logits (n, 1)."""
        index = np.arange(len(high)) if rows is None else rows
        logits = predictions[:, : self.codebook].reshape(len(predictions), -1, self.low)[index, high]
        # In 64 bits, because logits that nobody has looked at may be any integers.
        return self.weights.take(np.subtract(best, logits, dtype=np.int64), mode="clip")

    def _low_tables(
        self, predictions: Predictions, rows: Rows | None, high: Symbols, found: _High
    ) -> NDArray[np.float32]:
        """Return the tables (n, low digits), given the high digits (n,) and what :meth:`_high` returned.

        Raises an :class:`InexactError` if the weight of a high digit is not the sum over its low digits.
        """
        weights, best = found
        tables, sums = _tables(self._low(predictions, rows, high, best))
        if (sums != weights[np.arange(len(high)), high]).any():
            raise inexact("The weights that a stage returned are not those of its logits")
        return tables

    def encode(self, writer: SymbolWriter, predictions: Predictions, tokens: Symbols, rows: Rows | None = None) -> None:
        """Append tokens (n,) under predictions (n, columns): all high digits, then all low ones."""
        if len(tokens) == 0:
            return
        with span("tables"):
            high, low = tokens // self.low, tokens % self.low
            found = self._high(predictions, rows)
            high_rows, low_rows = frequencies(found[0]), self._low_tables(predictions, rows, high, found)
        with span("range coding"):
            writer.write(high, high_rows)
            writer.write(low, low_rows)

    def decode(self, reader: SymbolReader, predictions: Predictions, rows: Rows | None = None) -> Symbols:
        """Read tokens int32 (n,) under predictions (n, columns); the inverse of :meth:`encode`.

        Of a payload that was cut, they are the first ones, up to the last of which both digits are certain.
        """
        if len(predictions if rows is None else rows) == 0:
            return np.empty(0, dtype=np.int32)
        with span("tables"):
            found = self._high(predictions, rows)
            tables = frequencies(found[0])
        with span("range coding"):
            high = reader.read(tables)
        if len(high) < len(tables):
            return np.empty(0, dtype=np.int32)
        with span("tables"):
            tables = self._low_tables(predictions, rows, high, found)
        with span("range coding"):
            low = reader.read(tables)
        return high[: len(low)] * np.int32(self.low) + low

    def cost(self, predictions: Predictions, tokens: Symbols, rows: Rows | None = None) -> float:
        """Return the bits that coding tokens (n,) takes, without the rounding of the tables; for statistics."""
        return float(self.costs(predictions, tokens, rows).sum())

    def costs(self, predictions: Predictions, tokens: Symbols, rows: Rows | None = None) -> NDArray[np.float64]:
        """Return the bits (n,) that coding each token takes, as :meth:`cost` does for all of them."""
        weights, best = self._high(predictions, rows)
        low = self._low(predictions, rows, tokens // self.low, best)
        chosen = low[np.arange(len(tokens)), tokens % self.low]
        costs: NDArray[np.float64] = -np.log2(chosen / weights.sum(axis=1, dtype=np.float64))
        return costs
