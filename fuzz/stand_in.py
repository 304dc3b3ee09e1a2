"""A codec for token grids whose prior is a small calculation: everything but the networks is the real thing."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.bundle import Bundle
from uigc.runtime.format.schedule import Schedule
from uigc.runtime.limits import Limits
from uigc.runtime.providers import Graph
from uigc.runtime.token_codec import TokenCodec, staged_prior

MAX_PIXELS = 1 << 17  # two windows of the default bundle's prior: a file takes milliseconds
_KINDS = 97


def _table(stage: int, codebook: int) -> NDArray[np.int32]:
    return np.random.default_rng(stage).integers(-448, 1, (_KINDS, codebook), dtype=np.int32)


class _Stage(Graph):
    """Logits that depend on a token and on its neighbours, as a prior's do."""

    def __init__(self, stage: int, schedule: Schedule, codebook: int) -> None:
        self.stage, self.schedule = stage, schedule
        self.table = _table(stage, codebook)

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        context = value * 5 + np.roll(value, 1, axis=1) * 3 + np.roll(value, 1, axis=2)
        return np.stack([self.table[self.schedule.gather(grid % _KINDS, self.stage)] for grid in context])


def tables() -> NDArray[np.int32]:
    """Return the logits that the stages choose from, int32 (stages, kinds, codebook); ``agreement.cpp`` reads them."""
    bundle = stand_in().bundle
    return np.stack([_table(stage, bundle.codebook) for stage in range(len(bundle.schedule))])


@functools.cache
def stand_in() -> TokenCodec:
    """Return the codec: header, tables and schedule of the default bundle, with another calculation of the logits."""
    bundle = Bundle.load(recompute=False)
    load = functools.cache(lambda stage: _Stage(stage, bundle.schedule, bundle.codebook))
    return TokenCodec(bundle, staged_prior(bundle, load, 1 << 30), Limits(bundle.local, MAX_PIXELS))
