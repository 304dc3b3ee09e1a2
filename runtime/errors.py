"""What can go wrong, and the exit code that the command line gives it.

Every message is one sentence with the fact, what was expected, and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S")


class ExitCode(IntEnum):
    """Exit codes of the command line; listed in ``docs/CLI.md`` and stable."""

    OK = 0
    INTERNAL = 1
    DIFFERENT = 1  # what `uigc verify` found; by its nature also a bug, of ours or of a provider
    USAGE = 2
    INPUT = 3
    OUTPUT = 4
    NOT_OURS = 5
    NEWER_FORMAT = 6
    OTHER_PRIOR = 7
    DAMAGED = 8
    TOO_LARGE = 9
    BUNDLE = 10
    PROVIDER = 11
    DEPENDENCY = 12
    INEXACT = 13
    ENGINE = 14
    BUDGET = 15


class UigcError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = ExitCode.INTERNAL


class UsageError(UigcError):
    """Arguments that contradict each other or make no sense."""

    exit_code = ExitCode.USAGE


class InputError(UigcError):
    """An input that cannot be read, or a picture that the codec refuses."""

    exit_code = ExitCode.INPUT


class OutputError(UigcError):
    """An output that cannot be written, or exists already."""

    exit_code = ExitCode.OUTPUT


class NotOursError(UigcError):
    """The data is not a uigc file."""

    exit_code = ExitCode.NOT_OURS


class NewerFormatError(UigcError):
    """The file's format is newer than this decoder."""

    exit_code = ExitCode.NEWER_FORMAT


class OtherPriorError(UigcError):
    """The file was written with another prior."""

    exit_code = ExitCode.OTHER_PRIOR


class DamagedError(UigcError):
    """The file is truncated, has trailing bytes, or fails its checksum."""

    exit_code = ExitCode.DAMAGED


class TooLargeError(UigcError):
    """The picture exceeds a limit of the format."""

    exit_code = ExitCode.TOO_LARGE


class BundleError(UigcError):
    """The bundle is missing, incomplete or inconsistent."""

    exit_code = ExitCode.BUNDLE


class ProviderError(UigcError):
    """The provider asked for cannot run here."""

    exit_code = ExitCode.PROVIDER


class DependencyError(UigcError):
    """A package of an optional extra is missing."""

    exit_code = ExitCode.DEPENDENCY


class InexactError(UigcError):
    """The prior that ran did not reproduce the encoder's symbols."""

    exit_code = ExitCode.INEXACT


class EngineError(UigcError):
    """An engine cannot be built, or is not the one that is needed."""

    exit_code = ExitCode.ENGINE


class BudgetError(UigcError):
    """Nothing can be quantized at a loss that is allowed."""

    exit_code = ExitCode.BUDGET


def whole(outcome: T | UigcError) -> T:
    """The outcome; raises it if it is an error."""
    if isinstance(outcome, UigcError):
        raise outcome
    return outcome


def attempt(work: Callable[[], T]) -> T | UigcError:
    """What ``work`` returns, or the error that it raises."""
    try:
        return work()
    except UigcError as error:
        return error


def through(
    work: Callable[[list[S]], Sequence[T | UigcError]], outcomes: Sequence[S | UigcError]
) -> list[T | UigcError]:
    """Give ``work`` what is no error; its outcomes take their places, and errors keep theirs."""
    good = [outcome for outcome in outcomes if not isinstance(outcome, UigcError)]
    results = iter(work(good) if good else [])
    return [outcome if isinstance(outcome, UigcError) else next(results) for outcome in outcomes]
