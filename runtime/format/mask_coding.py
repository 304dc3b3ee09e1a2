"""Coding of the edge bits, with a context of ten neighbours and a table of probabilities trained on photographs.

The context of a bit ``?`` is made of the ten bits ``x`` before it (the template of JBIG, ITU-T T.82)::

    . x x x .     two rows up
    x x x x x     one row up
    x x ?         the current row

Read row by row, most significant bit first, they are the number of the context, 0..1023. Bits outside the grid are 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Bits
from uigc.runtime.format.entropy_coder import SymbolReader, SymbolWriter, binary_model, binary_rows

CONTEXT_BITS = 10
_REACH = 2  # rows above and columns to either side that a context looks at


def contexts(bits: Bits) -> NDArray[np.int64]:
    """Return the context 0..1023 of each bit in raster order: shape (rows * columns,)."""
    rows, columns = bits.shape
    framed = np.pad(bits.astype(np.int64), ((_REACH, 0), (_REACH, _REACH)))
    context = np.zeros((rows, columns), dtype=np.int64)
    for dy, reach in ((-2, range(-1, 2)), (-1, range(-2, 3)), (0, range(-2, 0))):
        for dx in reach:
            shifted = framed[_REACH + dy : _REACH + dy + rows, _REACH + dx : _REACH + dx + columns]
            context = context * 2 + shifted
    return context.reshape(-1)


def count_table(images: list[Bits]) -> NDArray[np.int32]:
    """Train the table: the probability of a one in 1/65536 for each context, int32 (1024,), 64..65472.

    ``images`` are the edge bits of photographs. Contexts that occur rarely lean on the share of ones among all contexts
    with as many ones.
    """
    ones, total = np.zeros(1 << CONTEXT_BITS), np.zeros(1 << CONTEXT_BITS)
    for bits in images:
        context = contexts(bits)
        total += np.bincount(context, minlength=len(total))
        ones += np.bincount(context, weights=bits.reshape(-1), minlength=len(total))
    weight = np.array([index.bit_count() for index in range(len(total))])
    pooled = (np.bincount(weight, ones) + 0.5) / (np.bincount(weight, total) + 1)
    probability = (ones + 8 * pooled[weight]) / (total + 8)
    return np.clip(np.rint(probability * 65536), 64, 65472).astype(np.int32)


def write_bits(writer: SymbolWriter, bits: Bits, table: NDArray[np.int32]) -> None:
    """Append edge bits in raster order."""
    writer.write(bits.reshape(-1).astype(np.int32), binary_rows(table.astype(np.int64)[contexts(bits)]))


def read_bits(reader: SymbolReader, shape: tuple[int, int], table: NDArray[np.int32]) -> Bits:
    """Read edge bits of a shape (rows, columns); the inverse of :func:`write_bits`."""
    rows, columns = shape
    models = _Models(binary_rows(table.astype(np.int64)))
    # A frame of zeros around the grid stands for the bits outside; column x of the grid is column x + 2 of the frame.
    framed = np.zeros((rows + _REACH, columns + 2 * _REACH), dtype=np.int64).tolist()
    with reader.one_by_one() as read:
        for row in range(rows):
            two_up, one_up, current = framed[row], framed[row + 1], framed[row + 2]
            # The template's rows as numbers of 3, 5 and 2 bits, here one column before the grid begins.
            high, middle, low = two_up[2], one_up[2] * 2 + one_up[3], 0
            for column in range(columns):
                # Move the template one column on: each row takes one bit in at its right end and drops one at its left.
                high = (high * 2 + two_up[column + 3]) & 7
                middle = (middle * 2 + one_up[column + 4]) & 31
                bit = read(models[high << 7 | middle << 2 | low])
                low = (low * 2 + bit) & 3
                current[column + 2] = bit
    return np.array(framed, dtype=bool)[_REACH:, _REACH:-_REACH]


class _Models(dict[int, Any]):
    """Prebuilt models by context, each built when it is first needed: an image needs few of them."""

    def __init__(self, rows: NDArray[np.float32]) -> None:
        super().__init__()
        self._rows = rows

    def __missing__(self, context: int) -> Any:
        model = self[context] = binary_model(self._rows[context])
        return model
