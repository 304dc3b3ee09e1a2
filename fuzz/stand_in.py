"""A codec for token grids whose prior is a small calculation: everything but the networks is the real thing."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.manifest import CODER_TABLE
from uigc.runtime.exactness.reference import with_sums
from uigc.runtime.limits import Limits
from uigc.runtime.providers import Graph
from uigc.runtime.token_codec import TokenCodec, staged_prior

MAX_PIXELS = 1 << 17  # two windows of the default bundle's prior: a file takes milliseconds
_KINDS = 97


def _table(stage: int, bundle: Bundle) -> NDArray[np.int32]:
    """Return predictions (kinds, columns), as a bundle's graphs give them."""
    logits = np.random.default_rng(stage).integers(-448, 1, (_KINDS, bundle.codebook), dtype=np.int32)
    return with_sums(logits, bundle.table(CODER_TABLE)) if bundle.has_sums else logits


class _Stage(Graph):
    """Predictions that depend on a token and on its neighbours, as a prior's do."""

    def __init__(self, stage: int, bundle: Bundle) -> None:
        self.stage, self.schedule = stage, bundle.schedule
        self.table = _table(stage, bundle)

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        context = value * 5 + np.roll(value, 1, axis=1) * 3 + np.roll(value, 1, axis=2)
        return np.stack([self.table[self.schedule.gather(grid % _KINDS, self.stage)] for grid in context])


def tables() -> NDArray[np.int32]:
    """Return the predictions that the stages choose from, int32 (stages, kinds, columns), for ``agreement.cpp``."""
    bundle = stand_in().bundle
    return np.stack([_table(stage, bundle) for stage in range(len(bundle.schedule))])


@functools.cache
def stand_in() -> TokenCodec:
    """Return the codec: header, tables and schedule of the default bundle, with predictions of another kind."""
    bundle = Bundle.load(recompute=False)
    load = functools.cache(lambda stage: _Stage(stage, bundle))
    return TokenCodec(bundle, staged_prior(bundle, load, 1 << 30), Limits(bundle.local, MAX_PIXELS))
