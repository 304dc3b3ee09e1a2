"""Inputs that fail while the others go on: each is told of at once, and all are one error at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from uigc.runtime.cli.logs import LOG, about
from uigc.runtime.cli.progress_line import say
from uigc.runtime.errors import UigcError
from uigc.runtime.outcomes import capture

T = TypeVar("T")


class Failures:
    """The inputs of a command that failed. ``others``: what is true of those that did not, if there are any."""

    def __init__(self, others: str) -> None:
        self._others, self._errors = others, list[UigcError]()

    def __len__(self) -> int:
        return len(self._errors)

    def attempt(self, name: str, work: Callable[[], T]) -> T | None:
        """Return the result of ``work`` on an input, or None if it failed."""
        with about(name):
            outcome = capture(work)
        if not isinstance(outcome, UigcError):
            return outcome
        self.add(outcome, name)
        return None

    def add(self, error: UigcError, name: str) -> None:
        """Tell of the error of an input in a sentence that names it, and remember it."""
        self._errors.append(error)
        say(f"uigc: {error}" if name in str(error) else f"uigc: {name}: {error}")
        LOG.debug("the error of %s began here:", name, exc_info=error)

    def finish(self, total: int) -> None:
        """Raise an error with the exit code of the first failure, if some of ``total`` inputs failed."""
        if self._errors:
            others = f"; {self._others}" if len(self) < total else ""
            error = UigcError(f"{len(self)} of {total} files failed, for the reasons above{others}.")
            error.exit_code = self._errors[0].exit_code
            raise error
