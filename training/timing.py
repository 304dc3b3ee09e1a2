"""Where the time of a training run goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch


class Timer:
    """Counts what a recipe trains on, and the seconds of each part of its steps, since the last :meth:`take`.

    Parts must not contain each other. On a GPU each part waits until the device has done its work.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._begin()

    def _begin(self) -> None:
        self._items, self._started = 0, time.monotonic()
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Count the time of the block as that of ``part``."""
        begun = time.monotonic()
        try:
            yield
        finally:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self._seconds[part] = self._seconds.get(part, 0.0) + time.monotonic() - begun

    def count(self, items: int) -> None:
        self._items += items

    @property
    def rate(self) -> float:
        """Items a second."""
        return self._items / max(time.monotonic() - self._started, 1e-9)

    def take(self) -> dict[str, float]:
        """Return the share of the time that each part took, 0..1, and begin anew."""
        whole = max(time.monotonic() - self._started, 1e-9)
        shares = {part: round(seconds / whole, 3) for part, seconds in self._seconds.items()}
        self._begin()
        return shares
