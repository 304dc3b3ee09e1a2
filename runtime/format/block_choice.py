"""The encoder's choice of blocks that are sent whole: those with strong gradients, or those that would be lost worst.

The file format leaves this choice free. It is made in integers all the same, so that every machine writes the same
file.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Bits, Pixels, Tokens
from uigc.runtime.format.mask import BLOCK


def edge_blocks(image: Pixels, patch: int, share: float | None = None) -> Bits:
    """Return the edge bits (ceil(h/2), ceil(w/2)) of an image uint8 (H, W, 3) whose sides are h and w patches.

    A block lies on an edge, as in the UIGC paper, if its mean Sobel magnitude (|across| + |down|, of the luma) exceeds
    that of the whole image; or, given a ``share`` (0..1) of the blocks, if it is among that many largest.
    """
    return _largest(*_gradients(image, BLOCK * patch), share)


def lost_blocks(tokens: Tokens, regenerated: Tokens, codewords: NDArray[np.int64], share: float | None = None) -> Bits:
    """Return bits (ceil(h/2), ceil(w/2)) for the blocks of a token grid (h, w) that a decoder would miss most.

    ``regenerated`` is the grid as it comes back if no block is kept, ``codewords`` (codebook, dim) are those of
    :func:`in_steps`. A block's loss is the sum of the squared distances between the codewords of its tokens and those
    of the tokens in their place; blocks are chosen by their losses as in :func:`edge_blocks`.
    """
    losses = block_losses(tokens, regenerated, codewords)
    return _largest(losses, np.ones_like(losses), share)


def block_losses(tokens: Tokens, regenerated: Tokens, codewords: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the losses (ceil(h/2), ceil(w/2)) of blocks that :func:`lost_blocks` chooses by."""
    return _block_sums(np.square(codewords[tokens] - codewords[regenerated]).sum(axis=2), BLOCK)


def in_steps(codewords: NDArray[np.floating]) -> NDArray[np.int64]:
    """Round codewords (codebook, dim) to whole steps of 1/127 of their largest number, in which losses are measured."""
    exact = codewords.astype(np.float64)
    return np.rint(exact * (127 / np.abs(exact).max())).astype(np.int64)


def _block_sums(values: NDArray[np.int32 | np.int64], size: int) -> NDArray[np.int64]:
    """Sum over blocks of ``size`` x ``size``; blocks at the border may be cut off."""
    rows = np.add.reduceat(values, np.arange(0, values.shape[0], size), axis=0, dtype=np.int64)
    return np.add.reduceat(rows, np.arange(0, values.shape[1], size), axis=1)


def _gradients(image: Pixels, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sum the Sobel magnitudes (|across| + |down|, of the luma) over blocks of ``size`` x ``size`` pixels.

    Returns the sums and the numbers of pixels of the blocks; blocks at the border may be cut off.
    """
    height, width = image.shape[:2]
    tops, lefts = np.arange(0, height, size), np.arange(0, width, size)
    sums = np.empty((len(tops), len(lefts)), dtype=np.int64)
    for index, top in enumerate(tops):  # one row of blocks at a time, which stays in the cache
        # Luma (weights in 1/1000) of the block row with a border of one pixel, which repeats the image's edge.
        rows = image[np.arange(top - 1, min(top + size, height) + 1).clip(0, height - 1)]
        luma = np.empty((len(rows), width + 2), dtype=np.int32)
        # The type is said, because NumPy 1 and 2 differ in what bytes times a number are.
        red, green, blue = (rows[..., channel].astype(np.int32) for channel in range(3))
        luma[:, 1:-1] = red * 299 + green * 587 + blue * 114
        luma[:, 0], luma[:, -1] = luma[:, 1], luma[:, -2]
        # The Sobel operator: smooth by (1, 2, 1) one way, take differences the other way.
        smooth_rows = luma[:-2] + 2 * luma[1:-1] + luma[2:]
        smooth_columns = luma[:, :-2] + 2 * luma[:, 1:-1] + luma[:, 2:]
        magnitude = np.abs(smooth_rows[:, 2:] - smooth_rows[:, :-2])
        magnitude += np.abs(smooth_columns[2:] - smooth_columns[:-2])
        sums[index] = np.add.reduceat(magnitude.sum(axis=0, dtype=np.int64), lefts)
    tall, wide = (np.minimum(starts + size, end) - starts for starts, end in ((tops, height), (lefts, width)))
    return sums, tall[:, None] * wide


def _largest(sums: NDArray[np.int64], counts: NDArray[np.int64], share: float | None) -> Bits:
    """Mark the blocks whose mean ``sums / counts`` is above that of all, or the given ``share`` with the largest."""
    if share is not None:
        means = sums / counts  # correctly rounded, so it is the same everywhere
        chosen = np.argsort(-means, axis=None, kind="stable")[: round(share * means.size)]
        return np.isin(np.arange(means.size), chosen).reshape(means.shape)
    # Compared without division; at most 2^28 pixels of 2^21 each, times 2^10, fit 64 bits.
    return sums * counts.sum() > sums.sum() * counts
