"""Log messages of uigc on standard error: warnings, and with ``--verbose`` what is done and how long it takes."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from uigc.runtime.cli.progress_line import say

LOG = logging.getLogger("uigc")
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)  # by the number of times that --verbose is given
_subject: ContextVar[str] = ContextVar("subject", default="")


@contextmanager
def about(name: str) -> Iterator[None]:
    """Let log messages within say that they are about this input."""
    token = _subject.set(name)
    try:
        yield
    finally:
        _subject.reset(token)


@contextmanager
def on_standard_error(verbose: int, quiet: bool) -> Iterator[None]:
    """Print log messages within, from warnings on; more with ``verbose``, nothing but errors with ``quiet``."""
    handler, level = _Handler(), LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.ERROR if quiet else _LEVELS[min(verbose, len(_LEVELS) - 1)])
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)


class _Handler(logging.Handler):
    """Prints one line for each message, above the progress line; a message that cannot be printed is lost."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            kind = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
            subject = f"{_subject.get()}: " if _subject.get() else ""
            say(f"uigc: {kind}{subject}{record.getMessage()}")
            if record.exc_info and record.exc_info[1]:
                say("".join(traceback.format_exception(record.exc_info[1])).rstrip())
        except Exception:
            self.handleError(record)
