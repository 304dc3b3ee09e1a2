"""The progress of long work, as a line on a terminal."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress

from uigc.runtime.io.streams import printable

PROGRESS_AFTER = 2.0  # seconds


class ProgressLine:
    """A line on standard error that appears on a terminal once the work has taken two seconds.

    It is a :data:`~uigc.runtime.progress.Progress` callback, and a context manager that clears the line at its end.
    """

    def __init__(self, quiet: bool) -> None:
        self._text, self._shown = "", False
        self._timer = threading.Timer(PROGRESS_AFTER, self._begin)
        self._timer.daemon = True
        if not quiet and sys.stderr is not None and sys.stderr.isatty():
            self._timer.start()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._shown:
            _write("\r\x1b[K")

    def __call__(self, label: str, done: int, total: int) -> None:
        self._text = f"{label} {done}/{total}"
        if self._shown:
            self._draw()

    def print_above(self, text: str) -> None:
        """Print a line on standard error, above this one."""
        clear = "\r\x1b[K" if self._shown else ""
        _write(f"{clear}{printable(text)}\n")
        if self._shown:
            self._draw()

    def _begin(self) -> None:
        self._shown = True
        self._draw()

    def _draw(self) -> None:
        _write(f"\r\x1b[K{self._text}")


def _write(text: str) -> None:
    """Write to standard error; a terminal that has gone stops no work."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()
