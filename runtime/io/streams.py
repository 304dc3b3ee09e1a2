"""The standard streams of the program ``uigc``: results on standard output, and nothing else.

Libraries print where they like. So before any is loaded, the program takes standard output for itself: what anything
else writes there, in Python or in native code, goes to standard error.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, TextIO

_results: TextIO | None = None
_taken = False


def take() -> None:
    """Take standard output for results; streams that are closed become ones that swallow everything.

    A closed stream's number would otherwise go to the next file that is opened, and errors into that file.
    """
    global _results, _taken
    if _taken:
        return
    _taken = True
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        return
    encoding, errors = sys.stdout.encoding, sys.stdout.errors
    sys.stdout.flush()
    _results = os.fdopen(os.dup(1), "w", encoding=encoding, errors=errors)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(os.dup(2), "w", buffering=1, encoding=encoding, errors="backslashreplace")


def results() -> TextIO | None:
    """Return the stream for results; None if standard output is closed."""
    return _results if _taken else sys.stdout


def show(*values: Any) -> None:
    """Print a line of results."""
    stream = results()
    if stream is not None:
        print(*values, file=stream)


def note(text: str) -> None:
    """Print a line on standard error; a message that cannot be printed is lost, and fails nothing."""
    with suppress(AttributeError, OSError, ValueError):
        print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return text with its control characters and undecodable bytes escaped: file names may hold anything."""
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)


def flush() -> None:
    """Write out what is buffered; raises a :class:`BrokenPipeError` if the reader has gone."""
    stream = results()
    if stream is not None:
        stream.flush()


def discard() -> None:
    """Forget what is buffered: the reader of standard output has gone."""
    stream = results()
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
