"""What can go wrong, and the exit code that the command line gives it.

Every message is one sentence with the fact, what was expected, and what to do.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line; listed in ``docs/CLI.md`` and stable."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    INPUT = 3
    OUTPUT = 4
    UNRECOGNIZED_FILE = 5
    UNSUPPORTED_VERSION = 6
    PRIOR_MISMATCH = 7
    CORRUPT_FILE = 8
    TOO_LARGE = 9
    BUNDLE = 10
    PROVIDER = 11
    DEPENDENCY = 12
    INEXACT = 13
    ENGINE = 14
    BUDGET = 15
    MISMATCH = 16  # what `uigc verify` finds; a bug, ours or a provider's


class UigcError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = ExitCode.INTERNAL


class UsageError(UigcError):
    """Arguments that contradict each other or make no sense."""

    exit_code = ExitCode.USAGE


class InputError(UigcError):
    """An input that cannot be read, or an image that the codec refuses."""

    exit_code = ExitCode.INPUT


class OutputError(UigcError):
    """An output that cannot be written, or exists already."""

    exit_code = ExitCode.OUTPUT


class UnrecognizedFileError(UigcError):
    """The data is not a uigc file."""

    exit_code = ExitCode.UNRECOGNIZED_FILE


class UnsupportedVersionError(UigcError):
    """The file's format is newer than this decoder."""

    exit_code = ExitCode.UNSUPPORTED_VERSION


class PriorMismatchError(UigcError):
    """The file was written with another prior."""

    exit_code = ExitCode.PRIOR_MISMATCH


class CorruptFileError(UigcError):
    """The file is truncated, has trailing bytes, or fails its checksum."""

    exit_code = ExitCode.CORRUPT_FILE


class TooLargeError(UigcError):
    """The image exceeds a limit of the format."""

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


class MismatchError(UigcError):
    """A provider computed other logits than the integer reference."""

    exit_code = ExitCode.MISMATCH
