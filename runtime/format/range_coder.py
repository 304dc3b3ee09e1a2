"""The range coder of a payload: symbols under tables of frequencies to bytes, and back, on constriction's coder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from uigc.runtime.errors import InexactError

TOTAL = 1 << 24  # probabilities are multiples of 1/TOTAL
CHECK_VALUES = 256  # values of one of the two symbols of the check

Symbols = NDArray[np.int32]

# perfect=False is the documented, reproducible quantizer; the library's default is a different one, 1000 times slower.
FAMILY = constriction.stream.model.Categorical(perfect=False)


def inexact(fact: str) -> InexactError:
    """Return the error for what only a prior that was not computed exactly can lead to."""
    return InexactError(
        f"{fact}, which means that the provider did not compute the prior exactly; use the provider 'cpu' and report "
        "the provider."
    )


def _uniform(count: int, size: int) -> NDArray[np.float32]:
    """Return ``count`` rows under which ``size`` symbols are equally probable."""
    return np.full((count, size), TOTAL // size - 1, dtype=np.float32)


class SymbolWriter:
    """Range encoder of one payload."""

    def __init__(self) -> None:
        self._encoder: Any = constriction.stream.queue.RangeEncoder()

    def write(self, symbols: Symbols, rows: NDArray[np.float32]) -> None:
        """Append symbols int32 (n,) under rows (n, k): for each symbol its frequency - 1, in 1/TOTAL."""
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
        """Read one symbol under each row of ``rows`` (n, k), as :meth:`SymbolWriter.write` takes them: int32 (n,)."""
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
            raise inexact("The decoded tokens differ from the encoder's although the file is undamaged")


@contextmanager
def _guarded() -> Iterator[None]:
    """Turn the library's assertion on impossible data into an error of ours."""
    try:
        yield
    except AssertionError:  # "invalid for the employed entropy model": the tables are not the encoder's
        raise inexact("The payload does not fit the prior's probabilities although the file is undamaged") from None


def binary_rows(ones: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return rows (n, 2) for probabilities of a one, given in 1/65536, 1..65535."""
    one = ones * (TOTAL >> 16)
    return np.ascontiguousarray(np.stack([TOTAL - one - 1, one - 1], axis=1), dtype=np.float32)


def binary_model(row: NDArray[np.float32]) -> Any:
    """Build a model from a row of :func:`binary_rows`, for symbols whose context depends on the symbol before."""
    return constriction.stream.model.Categorical(row, perfect=False)
