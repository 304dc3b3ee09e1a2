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
from uigc.runtime.format.range_coder import SymbolReader, SymbolWriter, binary_model, binary_rows

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


_PASSED_ON = 0b1101111010  # the bits of a context that stay in it, moved by one, when the template moves one column on


def read_bits(reader: SymbolReader, shape: tuple[int, int], models: MaskModels) -> Bits:
    """Read edge bits of a shape (rows, columns); the inverse of :func:`write_bits`."""
    rows, columns = shape
    # Both rows above, with a frame of zeros for the bits outside: column x of the grid is column x + 2 of the frame.
    two_up, one_up, read_rows = [0] * (columns + 2 * _REACH), [0] * (columns + 2 * _REACH), []
    with reader.one_by_one() as read:
        for _ in range(rows):
            # The template moves one column on: in each of its rows one bit leaves at the left and one comes at the
            # right, from the rows above those of `entering`, and from this row the bit before.
            entering = [far << 7 | near << 2 for far, near in zip(two_up[3:], one_up[4:], strict=False)]
            context = two_up[2] << 8 | one_up[2] << 4 | one_up[3] << 3
            current, bit = [0] * _REACH, 0
            for new in entering:
                bit = read(models[context | new])
                current.append(bit)
                context = ((context | new) << 1 & _PASSED_ON) | bit
            current += [0] * _REACH
            two_up, one_up = one_up, current
            read_rows.append(current)
    return np.array(read_rows, dtype=bool)[:, _REACH:-_REACH]


class MaskModels(dict[int, Any]):
    """The models of a table by context, each built when it is first needed: images need few of them."""

    def __init__(self, table: NDArray[np.int32]) -> None:
        super().__init__()
        self._rows = binary_rows(table.astype(np.int64))

    def __missing__(self, context: int) -> Any:
        model = self[context] = binary_model(self._rows[context])
        return model
