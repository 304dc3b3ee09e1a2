"""Time alternatives in turns, so that other load on the machine affects all of them equally."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Times:
    """Milliseconds of every repeat after the warm-up."""

    milliseconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.milliseconds))

    @property
    def p95(self) -> float:
        return float(np.percentile(self.milliseconds, 95))


def time_interleaved(
    contenders: Mapping[str, Callable[[], object]],
    repeats: int,
    warm_up: int = 3,
    every: Mapping[str, int] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Times]:
    """Run each contender in turn, ``warm_up`` + ``repeats`` times; those in ``every`` warm up once and repeat only in
    each n-th round.

    A contender that returns a float has measured itself, in seconds; the others are measured here.
    """
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(warm_up + repeats):
        progress(round_, warm_up + repeats)
        for name, contender in contenders.items():
            if round_ != warm_up - 1 and (round_ - warm_up) % (every or {}).get(name, 1):
                continue
            begun = time.perf_counter()
            own = contender()
            seconds = own if isinstance(own, float) else time.perf_counter() - begun
            if round_ >= warm_up:
                taken[name].append(1e3 * seconds)
    return {name: Times(tuple(times)) for name, times in taken.items()}
