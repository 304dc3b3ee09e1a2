"""From integer logits to bits and back: integer tables over constriction's range coder.

All inputs of the coder are integers that any language can reproduce; ``docs/FORMAT.md`` states them step by step. A
token is coded as two digits, high then low: one table over 1024 codewords costs a sequential sum of 1024 numbers for
each token, two tables over 32 digits do not, and their product is the same distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from uigc.runtime.errors import InexactError
from uigc.runtime.spans import span

TOTAL = 1 << 24  # probabilities are multiples of 1/TOTAL
LOGIT_STEPS = 32  # logits are integers in steps of 1/32 nat
FARTHEST = 448  # steps, or 14 nats; logits farther below the best are treated alike
CHECK_VALUES = 256  # values of one of the two symbols of the check
ROWS = 32  # rows of logits that are processed at a time

Ints = NDArray[np.int64]
Symbols = NDArray[np.int32]

# perfect=False is the documented, reproducible quantizer; the library's default is a different one, 1000 times slower.
_FAMILY = constriction.stream.model.Categorical(perfect=False)


def weight_table() -> NDArray[np.int32]:
    """Return the weight of a logit by its distance d (0..448) below the best: 2^19 * exp(-d / 32), at least 1.

    Shape (449,). The exporter writes the table into the bundle, where it is data: no decoder computes an exponential.
    """
    exact = [(2**19 - 1) * math.exp(-distance / LOGIT_STEPS) for distance in range(FARTHEST + 1)]
    return np.array([max(1, round(value)) for value in exact], dtype=np.int32)


def low_digits(codebook: int) -> int:
    """Return the number of low digits: a power of two, about the square root of the codebook size."""
    return 1 << ((codebook.bit_length() - 1) // 2)


def frequencies(weights: Ints) -> NDArray[np.float32]:
    """Turn integer weights (n, k) >= 1, whose rows sum to less than 2^31, into the tables for constriction.

    The frequencies of a row are the differences of ``C[i] = floor(W[i] * (2^24 - k) / W[k]) + i`` with W the cumulative
    weights, so each is at least 1 and they sum to 2^24. Returned is frequency - 1: the library scales a row by
    (2^24 - k) / sum = 1 and adds the 1 back, so it codes with exactly this table.
    """
    cumulative = np.cumsum(weights, axis=1)
    sums = cumulative[:, -1:].copy()
    cumulative *= TOTAL - weights.shape[1]
    cumulative //= sums
    cumulative[:, 1:] -= cumulative[:, :-1].copy()
    return np.ascontiguousarray(cumulative, dtype=np.float32)


class TokenEntropyModel:
    """The distribution of tokens under integer logits, for one codebook size and one weight table."""

    def __init__(self, table: NDArray[np.int32], codebook: int) -> None:
        self.codebook, self.low, self.weights = codebook, low_digits(codebook), table
        # Floats that hold integers exactly: the sums of up to 32 weights below 2^19 fit float32's 24 bits.
        self._table = table.astype(np.float32 if self.low <= 32 else np.float64)

    def _high(self, logits: NDArray[np.int32]) -> Ints:
        """Return the weights (n, high digits) under logits (n, codebook): sums over the low digits.

        A few rows are processed at a time, which stay in the cache and reuse the same memory.
        """
        sums = np.empty((len(logits), self.codebook // self.low), dtype=self._table.dtype)
        distance = np.empty((ROWS, self.codebook), dtype=np.intp)
        weights = np.empty((ROWS, self.codebook), dtype=self._table.dtype)
        for begin in range(0, len(logits), ROWS):
            rows = logits[begin : begin + ROWS]
            far, taken = distance[: len(rows)], weights[: len(rows)]
            np.subtract(rows.max(axis=1, keepdims=True), rows, out=far)
            self._table.take(far, out=taken, mode="clip")  # beyond the table's end: its last weight
            np.einsum("nhl->nh", taken.reshape(len(rows), -1, self.low), out=sums[begin : begin + ROWS])
        return sums.astype(np.int64)

    def _low(self, logits: NDArray[np.int32], high: Symbols) -> Ints:
        """Return the weights (n, low digits) under logits (n, codebook), given the high digits (n,)."""
        rows = logits.reshape(len(logits), -1, self.low)[np.arange(len(logits)), high]
        return self._table.take(logits.max(axis=1, keepdims=True) - rows, mode="clip").astype(np.int64)

    def encode(self, writer: SymbolWriter, logits: NDArray[np.int32], tokens: Symbols) -> None:
        """Append tokens (n,) under logits (n, codebook): all high digits, then all low ones."""
        if len(tokens) == 0:
            return
        with span("tables"):
            high, low = tokens // self.low, tokens % self.low
            high_rows, low_rows = frequencies(self._high(logits)), frequencies(self._low(logits, high))
        with span("range coding"):
            writer.write(high, high_rows)
            writer.write(low, low_rows)

    def decode(self, reader: SymbolReader, logits: NDArray[np.int32]) -> Symbols:
        """Read tokens int32 (n,) under logits (n, codebook); the inverse of :meth:`encode`."""
        if len(logits) == 0:
            return np.empty(0, dtype=np.int32)
        with span("tables"):
            rows = frequencies(self._high(logits))
        with span("range coding"):
            high = reader.read(rows)
        with span("tables"):
            rows = frequencies(self._low(logits, high))
        with span("range coding"):
            low = reader.read(rows)
        return high * np.int32(self.low) + low

    def cost(self, logits: NDArray[np.int32], tokens: Symbols) -> float:
        """Return the bits that coding tokens (n,) takes, without the rounding of the tables; for statistics."""
        return float(self.costs(logits, tokens).sum())

    def costs(self, logits: NDArray[np.int32], tokens: Symbols) -> NDArray[np.float64]:
        """Return the bits (n,) that coding each token takes, as :meth:`cost` does for all of them."""
        sums, high = self._high(logits).sum(axis=1), tokens // self.low
        chosen = self._low(logits, high)[np.arange(len(tokens)), tokens % self.low]
        return -np.log2(chosen / sums)


def _uniform(count: int, size: int) -> NDArray[np.float32]:
    """Return ``count`` rows under which ``size`` symbols are equally probable."""
    return np.full((count, size), TOTAL // size - 1, dtype=np.float32)


class SymbolWriter:
    """Range encoder of one payload."""

    def __init__(self) -> None:
        self._encoder: Any = constriction.stream.queue.RangeEncoder()

    def write(self, symbols: Symbols, rows: NDArray[np.float32]) -> None:
        """Append symbols int32 (n,) under rows (n, k) of :func:`frequencies`."""
        self._encoder.encode(np.ascontiguousarray(symbols, dtype=np.int32), _FAMILY, rows)

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
            symbols: Symbols = self._decoder.decode(_FAMILY, rows)
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
