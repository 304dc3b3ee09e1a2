"""An independent range decoder in plain integers: what ``docs/FORMAT.md`` says, without any library."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

TOTAL, MASK = 1 << 24, (1 << 64) - 1


def cumulative(weights: Sequence[int]) -> list[int]:
    """C[0] = 0, C[i] = floor(W[i] * (2^24 - k) / W[k]) + i, C[k] = 2^24."""
    sums = list(accumulate(weights, initial=0))
    return [s * (TOTAL - len(weights)) // sums[-1] + i for i, s in enumerate(sums)]


class Reader:
    def __init__(self, payload: bytes) -> None:
        self.data, self.position = payload, 0
        self.lower, self.range = 0, MASK
        self.point = self._word() << 32 | self._word()

    def _word(self) -> int:
        word = int.from_bytes(self.data[self.position : self.position + 4].ljust(4, b"\0"), "big")
        self.position += 4
        return word

    def read(self, table: Sequence[int]) -> int:
        scale = self.range >> 24
        quantile = (self.point - self.lower & MASK) // scale
        symbol = max(i for i in range(len(table) - 1) if table[i] <= quantile)
        self.lower = self.lower + scale * table[symbol] & MASK
        self.range = scale * (table[symbol + 1] - table[symbol])
        if self.range < 1 << 32:
            self.lower = self.lower << 32 & MASK
            self.range <<= 32
            self.point = (self.point << 32 | self._word()) & MASK
        return symbol
