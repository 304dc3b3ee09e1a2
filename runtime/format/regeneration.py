"""What takes the place of a token that was not sent: the most likely one, or one drawn from the most likely ones.

Drawing is integer arithmetic on logits that are the same everywhere, with counter-based random numbers: a token's
number depends on a seed, which the file holds, and on where the token lies, but on no batch, tile or order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Logits, Tokens

TOP_K = 8  # most likely tokens
TEMPERATURE = 3, 4  # their probabilities are those of the prior to the power of 4/3
SEEDS = 256
_BITS = 32

Numbers = NDArray[np.int64]


def most_likely(logits: Logits) -> Tokens:
    """Logits (n, codebook) -> tokens (n,); of equals, the lowest word."""
    return logits.argmax(axis=1).astype(np.int32)


def numbers(seed: int, height: int, width: int) -> Numbers:
    """A number 0..2^32-1 for each token of a grid (height, width): in raster order the upper halves of what
    Philox4x64-10 (Salmon et al., SC 2011) gives under the key ``seed``, 0..255, with its counter from 1 on."""
    raw = np.random.Philox(key=seed).random_raw(height * width)
    return (raw >> np.uint64(_BITS)).astype(np.int64).reshape(height, width)


def drawn(logits: Logits, numbers: Numbers, weights: NDArray[np.int32]) -> Tokens:
    """Logits (n, codebook) and a number for each -> tokens (n,), drawn from the ``TOP_K`` most likely ones, of
    equals the lower words, at :data:`TEMPERATURE`. ``weights`` by the distance below the best, as the coder has them.
    """
    if len(logits) == 0:
        return most_likely(logits)
    best, words = _best(logits, min(TOP_K, logits.shape[1]))
    distances = (best[:, :1] - best) * TEMPERATURE[1] // TEMPERATURE[0]
    sums = weights.astype(np.int64).take(distances, mode="clip").cumsum(axis=1)
    points = numbers * sums[:, -1] >> _BITS
    index = (sums <= points[:, None]).sum(axis=1)
    return words[np.arange(len(words)), index].astype(np.int32)


def _best(logits: Logits, count: int) -> tuple[Numbers, Numbers]:
    """The ``count`` largest logits of each row, largest first, and their words: (n, count) each."""
    codebook = logits.shape[1]
    # One integer holds both, so that no order among equals is left to the algorithm.
    keys = logits.astype(np.int64) * codebook + np.arange(codebook - 1, -1, -1)
    keys = np.sort(np.partition(keys, -count, axis=1)[:, -count:], axis=1)[:, ::-1]
    return keys // codebook, codebook - 1 - keys % codebook
