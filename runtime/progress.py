"""How long work reports its progress."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with a label for the current work, the number of steps done, and the number of all steps."""


def silent(label: str, done: int, total: int) -> None:
    """A progress callback that ignores every update."""
