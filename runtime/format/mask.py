"""The edge-preserved checkerboard: which tokens are sent.

After UIGC (ICME 2024): on the edges of the image every token is sent; elsewhere only the white squares of the
checkerboard (``edge``) or a quarter of the tokens (``edge_more``). One bit says for each block of 2x2 tokens whether it
lies on an edge. The encoder is free to choose the blocks: ours are those that the decoder would regenerate worst, or,
as published, those with strong gradients. The bits are coded with a context of ten neighbours (the template of JBIG,
ITU-T T.82) and a table trained on photographs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Bits, Tokens
from uigc.runtime.errors import UsageError
from uigc.runtime.format.entropy_coder import SymbolReader, SymbolWriter, binary_model, binary_rows
from uigc.runtime.format.regeneration import SEEDS
from uigc.runtime.format.schedule import Schedule

BLOCK = 2  # tokens, each way
CONTEXT_BITS = 10
_REACH = 2  # rows above and columns aside that a context looks at


class MaskMode(IntEnum):
    """Which tokens are sent; the value is the one in the file."""

    ENTIRE = 0
    EDGE = 1
    EDGE_MORE = 2

    @property
    def label(self) -> str:
        return self.name.lower()

    @property
    def share_off_edges(self) -> float:
        """Share of the tokens that is sent off the edges."""
        return {MaskMode.ENTIRE: 1.0, MaskMode.EDGE: 0.5, MaskMode.EDGE_MORE: 0.25}[self]


MODES = {mode.label: mode for mode in MaskMode}
_CHOICE = re.compile(r"(?P<mode>\w+)(:(?P<share>\d*\.?\d+))?(@(?P<by>loss|gradient))?(\+draw(?P<seed>\d{0,3}))?")


@dataclass(frozen=True)
class Mask:
    """What an encoder chooses; a decoder reads the blocks from the file.

    ``share`` of the blocks (0..1) that count as edges; None for those above the image's own mean, as in UIGC.
    ``by``: what they are the first of, ``loss`` (see :func:`lost_blocks`) or ``gradient`` (:func:`edge_blocks`).
    ``seed``: 0..255, with which the decoder draws the tokens that are lost; None for the most likely ones.
    """

    mode: MaskMode
    share: float | None = None
    by: str = "loss"
    seed: int | None = None

    @classmethod
    def parse(cls, choice: Mask | MaskMode | str) -> Mask:
        """From a mode, or from text: a mode's label, then perhaps a colon and the share, then perhaps ``@gradient``,
        then perhaps ``+draw`` and a seed."""
        if isinstance(choice, Mask):
            return choice
        if isinstance(choice, MaskMode):
            return cls(choice)
        match = _CHOICE.fullmatch(choice)
        if not match or match["mode"] not in MODES:
            raise UsageError(
                f"There is no mask {choice!r}; choose one of: {', '.join(MODES)}; after those that lose tokens a share "
                "from 0 to 1 of blocks to keep may follow, as in 'edge_more:0.2', '@gradient', and '+draw'."
            )
        share = float(match["share"]) if match["share"] else None
        seed = None if match["seed"] is None else int(match["seed"] or 0)
        made = cls(MODES[match["mode"]], share, match["by"] or "loss", seed)
        if (share or 0) > 1 or (seed or 0) >= SEEDS or (made.mode is MaskMode.ENTIRE and made != cls(MaskMode.ENTIRE)):
            raise UsageError(
                f"The mask {choice!r} makes no sense: the share goes to 1, the seed to {SEEDS - 1}, and 'entire' has "
                "neither; give another."
            )
        return made

    @property
    def label(self) -> str:
        share = "" if self.share is None else f":{self.share:g}"
        by, drawn = "" if self.by == "loss" else f"@{self.by}", "" if self.seed is None else f"+draw{self.seed or ''}"
        return f"{self.mode.label}{share}{by}{drawn}"


def _block_sums(values: NDArray[np.int32 | np.int64], size: int) -> NDArray[np.int64]:
    """Sums over blocks of ``size`` x ``size``; blocks at the border may be cut off."""
    rows = np.add.reduceat(values, np.arange(0, values.shape[0], size), axis=0, dtype=np.int64)
    return np.add.reduceat(rows, np.arange(0, values.shape[1], size), axis=1)


def _gradients(image: NDArray[np.uint8], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sobel magnitudes (|across| + |down|, of the luma) summed over blocks of ``size`` x ``size``, and their numbers of
    pixels; blocks at the border may be cut off. A row of blocks at a time stays in the cache."""
    height, width = image.shape[:2]
    tops, lefts = np.arange(0, height, size), np.arange(0, width, size)
    sums = np.empty((len(tops), len(lefts)), dtype=np.int64)
    for index, top in enumerate(tops):
        rows = image[np.arange(top - 1, min(top + size, height) + 1).clip(0, height - 1)]
        luma = np.empty((len(rows), width + 2), dtype=np.int32)
        luma[:, 1:-1] = rows[..., 0] * np.int32(299) + rows[..., 1] * np.int32(587) + rows[..., 2] * np.int32(114)
        luma[:, 0], luma[:, -1] = luma[:, 1], luma[:, -2]
        smooth_rows = luma[:-2] + 2 * luma[1:-1] + luma[2:]
        smooth_columns = luma[:, :-2] + 2 * luma[:, 1:-1] + luma[:, 2:]
        magnitude = np.abs(smooth_rows[:, 2:] - smooth_rows[:, :-2])
        magnitude += np.abs(smooth_columns[2:] - smooth_columns[:-2])
        sums[index] = np.add.reduceat(magnitude.sum(axis=0, dtype=np.int64), lefts)
    tall, wide = (np.minimum(starts + size, end) - starts for starts, end in ((tops, height), (lefts, width)))
    return sums, tall[:, None] * wide


def edge_blocks(image: NDArray[np.uint8], patch: int, share: float | None = None) -> Bits:
    """Edge bits (ceil(h/2), ceil(w/2)) of an image uint8 (H, W, 3) whose sides are h and w patches.

    A block lies on an edge where its mean Sobel magnitude (|across| + |down|, of the luma) exceeds the image's own
    mean; or is among the largest, of which there is the given ``share`` (0..1). Only the encoder runs this; it is done
    in integers all the same, so that every machine writes the same file.
    """
    return _largest(*_gradients(image, BLOCK * patch), share)


def lost_blocks(tokens: Tokens, regenerated: Tokens, words: NDArray[np.int64], share: float | None = None) -> Bits:
    """Blocks of a token grid (h, w) that a decoder would miss most: bits (ceil(h/2), ceil(w/2)).

    ``regenerated``: the grid as it comes back if no block is kept; ``words`` (codebook, dim): codewords in whole steps.
    A block's loss is the sum of the squared distances between its tokens' words and those in their place.
    """
    losses = _block_sums(np.square(words[tokens] - words[regenerated]).sum(axis=2), BLOCK)
    return _largest(losses, np.ones_like(losses), share)


def in_steps(words: NDArray[np.floating]) -> NDArray[np.int64]:
    """A codebook (words, dim) in whole steps of 1/127 of its largest number, as losses are weighed with."""
    exact = words.astype(np.float64)
    return np.rint(exact * (127 / np.abs(exact).max())).astype(np.int64)


def _largest(sums: NDArray[np.int64], counts: NDArray[np.int64], share: float | None) -> Bits:
    """Where ``sums / counts`` is among the largest, of which there is a ``share``, or above the mean of all."""
    if share is not None:
        means = sums / counts  # correctly rounded, so it is the same everywhere
        chosen = np.argsort(-means, axis=None, kind="stable")[: round(share * means.size)]
        return np.isin(np.arange(means.size), chosen).reshape(means.shape)
    # Compared without division; at most 2^28 pixels of 2^21 each, times 2^10, fit 64 bits.
    return sums * counts.sum() > sums.sum() * counts


def sent_tokens(mode: MaskMode, edges: Bits, schedule: Schedule, height: int, width: int) -> Bits:
    """Grid (height, width) that is true where a token is sent."""
    always = schedule.stage_of(-(-height // schedule.tile) * schedule.tile, -(-width // schedule.tile) * schedule.tile)
    always = always[:height, :width]
    sent = always < schedule.leading(mode.share_off_edges)
    on_edge = edges.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)[:height, :width]
    return sent | on_edge


def block_shape(height: int, width: int) -> tuple[int, int]:
    """Shape of the edge bits for a token grid."""
    return -(-height // BLOCK), -(-width // BLOCK)


def _framed(bits: Bits) -> NDArray[np.int64]:
    return np.pad(bits.astype(np.int64), ((_REACH, 0), (_REACH, _REACH)))


def contexts(bits: Bits) -> NDArray[np.int64]:
    """Context 0..1023 of each bit, raster order, from the ten bits before it: shape (rows * columns,).

    From the most significant bit: (-2,-1) (-2,0) (-2,1) (-1,-2) (-1,-1) (-1,0) (-1,1) (-1,2) (0,-2) (0,-1) as
    (row, column) offsets; outside the image they are 0.
    """
    rows, columns = bits.shape
    framed = _framed(bits)
    context = np.zeros((rows, columns), dtype=np.int64)
    for dy, reach in ((-2, range(-1, 2)), (-1, range(-2, 3)), (0, range(-2, 0))):
        for dx in reach:
            shifted = framed[_REACH + dy : _REACH + dy + rows, _REACH + dx : _REACH + dx + columns]
            context = context * 2 + shifted
    return context.reshape(-1)


def count_table(images: list[Bits]) -> NDArray[np.int32]:
    """Probability of a one in 1/65536 for each context, from edge bits of photographs: int32 (1024,), 64..65472.

    Contexts seen rarely lean on the share of ones among all contexts with as many ones.
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
    """The inverse of :func:`write_bits`."""
    rows, columns = shape
    models = _Models(binary_rows(table.astype(np.int64)))
    framed = np.zeros((rows + _REACH, columns + 2 * _REACH), dtype=np.int64).tolist()
    with reader.one_by_one() as read:
        for row in range(rows):
            second, first, here = framed[row], framed[row + 1], framed[row + 2]
            # Three, five and two bits of the rows, which move on by one a column; the frame around them is 0.
            high, middle, low = second[2], first[2] * 2 + first[3], 0
            for column in range(columns):
                high = (high * 2 + second[column + 3]) & 7
                middle = (middle * 2 + first[column + 4]) & 31
                bit = read(models[high << 7 | middle << 2 | low])
                low = (low * 2 + bit) & 3
                here[column + 2] = bit
    return np.array(framed, dtype=bool)[_REACH:, _REACH:-_REACH]


class _Models(dict[int, Any]):
    """Prebuilt models by their context, made when they are first needed: an image needs few."""

    def __init__(self, rows: NDArray[np.float32]) -> None:
        super().__init__()
        self._rows = rows

    def __missing__(self, context: int) -> Any:
        model = self[context] = binary_model(self._rows[context])
        return model
