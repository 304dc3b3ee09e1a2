"""Progress callbacks of long work."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""A function that is called with a label for the current work, the number of steps done, and the total."""


def silent(label: str, done: int, total: int) -> None:
    """A progress callback that ignores every update."""
