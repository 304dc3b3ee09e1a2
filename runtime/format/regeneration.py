"""Regeneration of the tokens that were not sent: the most likely one, or one drawn from the most likely ones.

Drawing is integer arithmetic on logits that are the same everywhere, with counter-based random numbers: the number of a
token depends on a seed, which the file holds, and on the token's position, but not on batches, tiles or the order of
work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Logits, Tokens

TOP_K = 8  # the most likely tokens, from which one is drawn
TEMPERATURE = 3, 4  # as a fraction: the probabilities are those of the prior to the power of 4/3
SEEDS = 256
_BITS = 32

RandomNumbers = NDArray[np.int64]
"""One random number 0..2^32-1 for each token."""


def most_likely(logits: Logits) -> Tokens:
    """Return the most likely tokens (n,) under logits (n, codebook); of equals, the lowest codeword."""
    return logits.argmax(axis=1).astype(np.int32)


def random_numbers(seed: int, height: int, width: int) -> RandomNumbers:
    """Return a random number 0..2^32-1 for each token of a grid (height, width).

    In raster order, they are the upper halves of the outputs of Philox4x64-10 (Salmon et al., SC 2011) under the key
    ``seed``, 0..255, with its counter from 1 on.
    """
    raw = np.random.Philox(key=seed).random_raw(height * width)
    return (raw >> np.uint64(_BITS)).astype(np.int64).reshape(height, width)


@dataclass(frozen=True)
class Candidates:
    """What tokens may be drawn from: the ``TOP_K`` most likely ``codewords`` (n, k) (of equals, the lower ones), and
    the cumulative weights (n, k) of their probabilities at :data:`TEMPERATURE`."""

    codewords: NDArray[np.int32]
    sums: NDArray[np.int32]

    @classmethod
    def of(cls, logits: Logits, weights: NDArray[np.int32]) -> Candidates:
        """Return those under logits (n, codebook), n above 0.

        ``weights`` is the entropy coder's table of weights by the distance below the best logit.
        """
        best, codewords = _best(logits, min(TOP_K, logits.shape[1]))
        distances = (best[:, :1] - best) * TEMPERATURE[1] // TEMPERATURE[0]
        return cls(codewords.astype(np.int32), weights.take(distances, mode="clip").cumsum(axis=1, dtype=np.int32))

    def index(self, numbers: RandomNumbers) -> NDArray[np.intp]:
        """Choose with one random number (n,) each: (n,), which of the k it is."""
        points = numbers * self.sums[:, -1] >> _BITS  # uniform on 0..total-1; the first whose sum lies above
        return (self.sums <= points[:, None]).sum(axis=1)

    def drawn(self, numbers: RandomNumbers) -> Tokens:
        """Draw tokens (n,) with one random number (n,) each."""
        return self.codewords[np.arange(len(self.codewords)), self.index(numbers)]


def drawn(logits: Logits, numbers: RandomNumbers, weights: NDArray[np.int32]) -> Tokens:
    """Draw tokens (n,) under logits (n, codebook) with one random number (n,) each, as :class:`Candidates` says."""
    return Candidates.of(logits, weights).drawn(numbers) if len(logits) else most_likely(logits)


def _best(logits: Logits, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ``count`` largest logits of each row, largest first, and their codewords: (n, count) each."""
    codebook = logits.shape[1]
    # One integer holds logit and codeword, so that no order among equals is left to the algorithm.
    keys = logits.astype(np.int64) * codebook + np.arange(codebook - 1, -1, -1)
    keys = np.sort(np.partition(keys, -count, axis=1)[:, -count:], axis=1)[:, ::-1]
    return keys // codebook, codebook - 1 - keys % codebook
