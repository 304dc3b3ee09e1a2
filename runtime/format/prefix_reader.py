"""The symbols of a payload that are certain when only its first bytes are there.

Whatever the missing bytes are, the coder's point lies between the one with zeros in their place and the one with ones,
and at every step the symbol rises with the point. So a symbol is what every way to go on decodes to exactly if it is
what these two decode to, and all symbols before it are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from uigc.runtime.format.range_coder import FAMILY, SymbolReader, Symbols

Place = Any
"""Where a reader stands in a payload: an encoder of the symbols up to there, since the library tells the state of
encoders alone, and the state of a decoder is the same."""


class PrefixReader(SymbolReader):
    """Range decoder of the first bytes of one payload: it reads the symbols that are certain, and no other.

    ``payload``: the bytes that are there, of ``length``. ``place``: where to begin, that of a reader of fewer bytes.

    After the first symbol that is not certain, ``cut`` is true and nothing more is read. A payload of which nothing is
    missing is read as :class:`SymbolReader` does.
    """

    def __init__(self, payload: bytes, length: int, place: Place | None = None) -> None:
        self.cut = False
        self._written: Any = constriction.stream.queue.RangeEncoder() if place is None else place.clone()
        missing = length - len(payload)
        self._decoder = self._at_place(payload + b"\0" * missing)
        self._highest: Any = self._at_place(payload + b"\xff" * missing) if missing else None

    def place(self) -> Place:
        """Return where this reader stands."""
        return self._written.clone()

    def read(self, rows: NDArray[np.float32]) -> Symbols:
        """Read one symbol under each row of ``rows`` (n, k), as far as they are certain: int32 (n,) or fewer."""
        if self._highest is None:
            symbols = super().read(rows)
        else:
            symbols = self._certain(rows[: 0 if self.cut else len(rows)])
            self.cut = len(symbols) < len(rows)
        self._written.encode(symbols, FAMILY, rows[: len(symbols)])
        return symbols

    @contextmanager
    def one_by_one(self) -> Iterator[Callable[[Any], int]]:
        """Give a function that reads one symbol under a prebuilt model; after a cut, it returns zeros."""

        def read(model: Any) -> int:
            symbol = self._one(model) if self._highest is not None else decode(model)
            if symbol is None:
                return 0
            self._written.encode(symbol, model)
            return symbol

        with super().one_by_one() as decode:
            yield read

    def _at_place(self, payload: bytes) -> Any:
        """Return a decoder of a payload, from this reader's place on."""
        position, state = self._written.pos()
        size = max(-(-len(payload) // 4), position + 2)  # a decoder reads two words ahead, and zeros past the end
        words = np.frombuffer(payload.ljust(4 * size, b"\0"), dtype=">u4").astype(np.uint32)
        decoder = constriction.stream.queue.RangeDecoder(words)
        decoder.seek(position, state)
        return decoder

    def _certain(self, rows: NDArray[np.float32]) -> Symbols:
        """Read symbols up to the first one on which the two decoders differ."""
        lowest, highest = self._decoder.clone(), self._highest.clone()
        try:
            symbols: Symbols = self._decoder.decode(FAMILY, rows)
            same = symbols == self._highest.decode(FAMILY, rows)
        except AssertionError:  # one came upon an impossible quotient, maybe after they differed
            self._decoder, self._highest = lowest, highest
            found = (self._one(FAMILY, row) for row in rows[:, None])
            return np.fromiter(iter(lambda: next(found, None), None), dtype=np.int32)
        return symbols if same.all() else symbols[: same.argmin()]

    def _one(self, *model: Any) -> int | None:
        """Read one symbol; None if it is not certain, or not after one that was not."""
        if not self.cut:
            try:
                symbols = {np.asarray(decoder.decode(*model)).item() for decoder in (self._decoder, self._highest)}
                self.cut = len(symbols) > 1
            except AssertionError:  # an impossible quotient, which no symbol has
                self.cut = True
        return None if self.cut else int(symbols.pop())
