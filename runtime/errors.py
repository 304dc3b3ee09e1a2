"""Every error that uigc raises on purpose, with the exit code that the command line returns for it.

Each message is one sentence with the fact, what was expected, and what to do::

    UigcError                       1  base class
    ├── UsageError                  2  arguments that contradict each other or are out of range
    │   └── OutOfReachError         2  an image of which no file keeps to the rate that was asked for
    ├── InputError                  3  an input that cannot be read, or an image that is refused
    ├── OutputError                 4  an output that exists already or cannot be written
    ├── UnrecognizedFileError       5  not a .uigc file
    ├── UnsupportedVersionError     6  a file of a newer version of the format
    ├── PriorMismatchError          7  a file written with another prior
    ├── CorruptFileError            8  a truncated or damaged file
    ├── TooLargeError               9  an image beyond the limits on its size
    ├── BundleError                10  a missing, incomplete or inconsistent bundle
    ├── ProviderError              11  a provider that cannot run here
    ├── DependencyError            12  a missing package of an optional extra
    ├── InexactError               13  a prior that was not computed exactly
    ├── ProofError                 13  a graph that cannot be proven exact (``export/proof/checks.py``)
    ├── EngineError                14  an engine that cannot be built or is not the one that is needed
    ├── BudgetError                15  calibration without a layer that can be int8 within the budget
    ├── MismatchError              16  a provider whose logits or weights differ from the reference
    ├── TraceError                  1  an exported graph that differs from its module (``export/trace.py``)
    └── StoredError                 1  a calibrated graph that differs from what was measured
                                       (``calibration/calibrate.py``)
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of the command line. They are stable, and ``docs/CLI.md`` lists them."""

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
    MISMATCH = 16


class UigcError(Exception):
    """The base of every error that uigc raises on purpose."""

    exit_code = ExitCode.INTERNAL


class UsageError(UigcError):
    """The arguments contradict each other or are out of range."""

    exit_code = ExitCode.USAGE


class OutOfReachError(UsageError):
    """No file of the image keeps to the rate that was asked for."""


class InputError(UigcError):
    """The input cannot be read, or the codec refuses the image."""

    exit_code = ExitCode.INPUT


class OutputError(UigcError):
    """The output exists already, or cannot be written."""

    exit_code = ExitCode.OUTPUT


class UnrecognizedFileError(UigcError):
    """The data is not a .uigc file."""

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
    """The image exceeds a limit of the format, or the one that the user set."""

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
    """The provider did not reproduce the encoder's symbols, so it did not compute the prior exactly."""

    exit_code = ExitCode.INEXACT


class EngineError(UigcError):
    """The engine cannot be built, or is not the one that is needed."""

    exit_code = ExitCode.ENGINE


class BudgetError(UigcError):
    """No layer can be quantized to int8 within the loss that is allowed."""

    exit_code = ExitCode.BUDGET


class MismatchError(UigcError):
    """A provider computed logits or weights other than the integer reference; a bug, in uigc or in the provider."""

    exit_code = ExitCode.MISMATCH
