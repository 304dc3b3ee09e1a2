"""From integer logits to bits and back: integer tables over constriction's range coder.

All inputs of the coder are integers that any language can reproduce; ``docs/FORMAT.md`` states them step by step. A
token is coded as two digits, high then low: one table over 1024 codewords costs a sequential sum of 1024 numbers for
each token, two tables over 32 digits do not, and their product is the same distribution.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Logits
from uigc.runtime.errors import InexactError
from uigc.runtime.spans import span

TOTAL = 1 << 24  # probabilities are multiples of 1/TOTAL
LOGIT_STEPS = 32  # logits are integers in steps of 1/32 nat
FARTHEST = 448  # steps, or 14 nats; logits farther below the best are treated alike
CHECK_VALUES = 256  # values of one of the two symbols of the check
ROWS = 32  # rows of logits that are processed at a time

EXACT_QUOTIENTS = 1 << 29
"""For sums W[k] below this, floors of quotients are exact in float64: the numerator is below 2^53, so the quotient is
rounded once, by at most 2^-30 as it is below 2^24; and one that is no integer is more than 2^-29 below the next."""

Weights = NDArray[np.int64] | NDArray[np.float32] | NDArray[np.float64]
"""Whole numbers, whatever their type."""
Symbols = NDArray[np.int32]
Rows = NDArray[np.intp]

# perfect=False is the documented, reproducible quantizer; the library's default is a different one, 1000 times slower.
FAMILY = constriction.stream.model.Categorical(perfect=False)


def weight_table() -> NDArray[np.int32]:
    """Return the weight of a logit by its distance d (0..448) below the best: 2^19 * exp(-d / 32), at least 1.

    Shape (449,). The exporter writes the table into the bundle, where it is data: no decoder computes an exponential.
    """
    exact = [(2**19 - 1) * math.exp(-distance / LOGIT_STEPS) for distance in range(FARTHEST + 1)]
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
    cumulative = np.cumsum(weights, axis=1, dtype=np.float64)
    sums = cumulative[:, -1:].copy()
    if sums.max(initial=0) < EXACT_QUOTIENTS:
        cumulative *= TOTAL - weights.shape[1]
        cumulative /= sums
        np.floor(cumulative, out=cumulative)
    else:
        cumulative = cumulative.astype(np.int64) * (TOTAL - weights.shape[1]) // sums.astype(np.int64)
    tables = np.empty(weights.shape, dtype=np.float32)
    tables[:, 0] = cumulative[:, 0]
    np.subtract(cumulative[:, 1:], cumulative[:, :-1], out=tables[:, 1:], casting="unsafe")
    return tables


class _Scratch(threading.local):
    """Memory of one thread for a few rows of logits, which is touched again and again and stays in the cache."""

    def __init__(self, codebook: int, dtype: np.dtype[Any]) -> None:
        self.logits = np.empty((ROWS, codebook), dtype=np.int32)
        self.distance = np.empty((ROWS, codebook), dtype=np.intp)
        self.weights = np.empty((ROWS, codebook), dtype=dtype)


class TokenEntropyModel:
    """The distribution of tokens under integer logits, for one codebook size and one weight table.

    ``rows``, where it is given, says under which rows of the logits the tokens are, one after the other.
    """

    def __init__(self, table: NDArray[np.int32], codebook: int) -> None:
        self.codebook, self.low, self.weights = codebook, low_digits(codebook), table
        # Floats that hold integers exactly: the sums of up to 32 weights below 2^19 fit float32's 24 bits.
        self._table = table.astype(np.float32 if self.low <= 32 else np.float64)
        self._scratch = _Scratch(codebook, self._table.dtype)

    def _high(self, logits: Logits, rows: Rows | None) -> tuple[Weights, Logits]:
        """Return the weights (n, high digits) under logits (any, codebook), sums over the low digits, and the largest
        logits (n, 1)."""
        count, scratch = len(logits) if rows is None else len(rows), self._scratch
        sums = np.empty((count, self.codebook // self.low), dtype=self._table.dtype)
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

    def _low(self, logits: Logits, rows: Rows | None, best: Logits, high: Symbols) -> Weights:
        """Return the weights (n, low digits), given the largest logits (n, 1) and the high digits (n,)."""
        index = np.arange(len(logits)) if rows is None else rows
        chosen = logits.reshape(len(logits), -1, self.low)[index, high]
        return self._table.take(best - chosen, mode="clip")  # type: ignore[return-value]

    def encode(self, writer: SymbolWriter, logits: Logits, tokens: Symbols, rows: Rows | None = None) -> None:
        """Append tokens (n,) under logits (n, codebook): all high digits, then all low ones."""
        if len(tokens) == 0:
            return
        with span("tables"):
            high, low = tokens // self.low, tokens % self.low
            weights, best = self._high(logits, rows)
            high_rows, low_rows = frequencies(weights), frequencies(self._low(logits, rows, best, high))
        with span("range coding"):
            writer.write(high, high_rows)
            writer.write(low, low_rows)

    def decode(self, reader: SymbolReader, logits: Logits, rows: Rows | None = None) -> Symbols:
        """Read tokens int32 (n,) under logits (n, codebook); the inverse of :meth:`encode`.

        Of a payload that was cut, they are the first ones, up to the last of which both digits are certain.
        """
        if len(logits if rows is None else rows) == 0:
            return np.empty(0, dtype=np.int32)
        with span("tables"):
            weights, best = self._high(logits, rows)
            tables = frequencies(weights)
        with span("range coding"):
            high = reader.read(tables)
        if len(high) < len(tables):
            return np.empty(0, dtype=np.int32)
        with span("tables"):
            tables = frequencies(self._low(logits, rows, best, high))
        with span("range coding"):
            low = reader.read(tables)
        return high[: len(low)] * np.int32(self.low) + low

    def cost(self, logits: Logits, tokens: Symbols, rows: Rows | None = None) -> float:
        """Return the bits that coding tokens (n,) takes, without the rounding of the tables; for statistics."""
        return float(self.costs(logits, tokens, rows).sum())

    def costs(self, logits: Logits, tokens: Symbols, rows: Rows | None = None) -> NDArray[np.float64]:
        """Return the bits (n,) that coding each token takes, as :meth:`cost` does for all of them."""
        weights, best = self._high(logits, rows)
        low = self._low(logits, rows, best, tokens // self.low)
        chosen = low[np.arange(len(tokens)), tokens % self.low]
        costs: NDArray[np.float64] = -np.log2(chosen / weights.sum(axis=1, dtype=np.float64))
        return costs


def _uniform(count: int, size: int) -> NDArray[np.float32]:
    """Return ``count`` rows under which ``size`` symbols are equally probable."""
    return np.full((count, size), TOTAL // size - 1, dtype=np.float32)


class SymbolWriter:
    """Range encoder of one payload."""

    def __init__(self) -> None:
        self._encoder: Any = constriction.stream.queue.RangeEncoder()

    def write(self, symbols: Symbols, rows: NDArray[np.float32]) -> None:
        """Append symbols int32 (n,) under rows (n, k) of :func:`frequencies`."""
        self._encoder.encode(np.ascontiguousarray(symbols, dtype=np.int32), FAMILY, rows)

    def write_check(self, value: int) -> None:
        """Append a 16-bit check as two uniform symbols of 8 bits."""
        self.write(np.array(divmod(value, CHECK_VALUES), dtype=np.int32), _uniform(2, CHECK_VALUES))

    def finish(self) -> bytes:
        """Return bytes that decode to the symbols written; past their end, a decoder reads zeros.

        They are the shortest ones, unless those need a carry beyond the coder's window, as one of many thousands does.
        """
        words = self._encoder.get_compressed()
        if len(words) == 0:
            return b""
        data: bytes = words.astype(">u4").tobytes()
        # The window: the 64 bits from word `position` on. What comes before is settled, and every number in the window
        # from `lower` up to, not including, `lower + width` decodes to the symbols that were written.
        position, (lower, width) = self._encoder.pos()
        base = 4 * position
        # The carry: get_compressed() rounds `lower` up. If that passed 2^64, it added 1 to the words before the window,
        # and a number in the window stands for 2^64 more than it says.
        carry = 1 << 64 if lower + (1 << 32) - 1 >= 1 << 64 else 0

        def decodes(text: bytes) -> bool:
            return 0 <= int.from_bytes(text[base : base + 8].ljust(8, b"\0"), "big") + carry - lower < width

        # Try shorter and shorter endings: as they are, or with the last byte raised by 1, which is the next larger
        # number of that length. A byte of 255 cannot be raised: the carry would leave a zero in its place, and
        # that number without the zero is tried as the next shorter ending.
        best = data
        for length in range(len(data) - 1, base - 1, -1):
            prefix = data[:length]
            if decodes(prefix):
                best = prefix
            elif length > base and prefix[-1] != 255:
                raised = prefix[:-1] + bytes([prefix[-1] + 1])
                if decodes(raised):
                    best = raised
        return best.rstrip(b"\0")  # zeros may go: a decoder reads them past the end anyway


class SymbolReader:
    """Range decoder of one payload."""

    def __init__(self, payload: bytes) -> None:
        padded = payload + b"\0" * (-len(payload) % 4)
        words = np.frombuffer(padded, dtype=">u4").astype(np.uint32)
        self._decoder: Any = constriction.stream.queue.RangeDecoder(words)

    def read(self, rows: NDArray[np.float32]) -> Symbols:
        """Read one symbol under each row of ``rows`` (n, k): int32 (n,)."""
        with _guarded():
            symbols: Symbols = self._decoder.decode(FAMILY, rows)
            return symbols

    @contextmanager
    def one_by_one(self) -> Iterator[Callable[[Any], int]]:
        """Give a function that reads one symbol under a prebuilt model (see :func:`binary_model`)."""
        with _guarded():
            yield self._decoder.decode

    def expect_check(self, value: int) -> None:
        """Read the 16-bit check and refuse any other value than the expected one."""
        high, low = self.read(_uniform(2, CHECK_VALUES))
        if high * CHECK_VALUES + low != value:
            raise InexactError(
                "The decoded tokens differ from the encoder's although the file is undamaged, which means that the "
                "provider did not compute the prior exactly; decode on the provider 'cpu' and report the provider."
            )


@contextmanager
def _guarded() -> Iterator[None]:
    """Turn the library's assertion on impossible data into an error of ours."""
    try:
        yield
    except AssertionError:  # "invalid for the employed entropy model": the tables are not the encoder's
        raise InexactError(
            "The payload does not fit the prior's probabilities although the file is undamaged, which means that "
            "the provider did not compute the prior exactly; decode on the provider 'cpu' and report the provider."
        ) from None


def binary_rows(ones: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return rows (n, 2) for probabilities of a one, given in 1/65536, 1..65535."""
    one = ones * (TOTAL >> 16)
    return np.ascontiguousarray(np.stack([TOTAL - one - 1, one - 1], axis=1), dtype=np.float32)


def binary_model(row: NDArray[np.float32]) -> Any:
    """Build a model from a row of :func:`binary_rows`, for symbols whose context depends on the symbol before."""
    return constriction.stream.model.Categorical(row, perfect=False)
