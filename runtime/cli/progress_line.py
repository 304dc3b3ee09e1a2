"""The progress of long work on standard error: one line that changes on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress

from uigc.runtime.io.streams import printable

PROGRESS_AFTER = 2.0  # seconds
LOG_EVERY = 30.0  # seconds between two lines where standard error is not a terminal
_ESTIMATE_AFTER = 1.0  # seconds that a part of the work has to take before its end is estimated


class ProgressLine:
    """A line on standard error once the work has taken two seconds; in a file or a pipe, one every half minute.

    It is a :data:`~uigc.runtime.progress.Progress` callback, and a context manager that clears the line at its end.
    """

    def __init__(self, quiet: bool) -> None:
        self._text, self._label, self._shown = "", "", False
        self._begun = self._logged = time.monotonic()
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self._logs = not quiet and not terminal
        self._timer = threading.Timer(PROGRESS_AFTER, self._begin)
        self._timer.daemon = True
        if not quiet and terminal:
            self._timer.start()

    def __enter__(self) -> ProgressLine:
        _open.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._shown:
            _write("\r\x1b[K")
        self._shown = False
        _open.remove(self)

    def __call__(self, label: str, done: int, total: int) -> None:
        now = time.monotonic()
        if label != self._label:
            self._label, self._begun = label, now
        self._text = describe(label, done, total, now - self._begun)
        if self._shown:
            self._draw()
        elif self._logs and now - self._logged >= LOG_EVERY:
            self._logged = now
            _write(f"{printable(self._text)}\n")

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
        _write(f"\r\x1b[K{printable(self._text)}")


_open: list[ProgressLine] = []


def say(text: str) -> None:
    """Print a line on standard error, above the progress line if there is one."""
    if _open:
        _open[-1].print_above(text)
    else:
        _write(f"{printable(text)}\n")


def describe(label: str, done: int, total: int, seconds: float) -> str:
    """Return the progress of a part of the work that began ``seconds`` ago, with the time that it will still take."""
    text = f"{label} {done}/{total}"
    if total < 1 or not 0 < done < total or seconds < _ESTIMATE_AFTER:
        return text
    return f"{text} ({100 * done // total} %), about {duration(seconds / done * (total - done))} left"


def duration(seconds: float) -> str:
    """Return a duration in words: ``8 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _write(text: str) -> None:
    """Write to standard error; a terminal that has gone stops no work."""
    with suppress(AttributeError, OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()
