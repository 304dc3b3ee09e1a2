"""Errors as values: an outcome is a result, or the :class:`UigcError` that stands in its place.

Batches work on outcomes, so that one item that fails neither stops nor shifts the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from uigc.runtime.errors import TooLargeError, UigcError

T = TypeVar("T")
S = TypeVar("S")


def unwrap(outcome: T | UigcError) -> T:
    """Return the result, or raise the error that stands in its place."""
    if isinstance(outcome, UigcError):
        raise outcome
    return outcome


def capture(work: Callable[[], T]) -> T | UigcError:
    """Call ``work`` and return its result, or the error that it raises.

    An exception that is not ours, from a library or from a bug, becomes a :class:`UigcError` with exit code 1, so that
    it ends nothing but its own item; anything else, such as Ctrl-C, passes.
    """
    try:
        return work()
    except UigcError as error:
        return error
    except MemoryError:
        return TooLargeError("The image needs more memory than is available; scale it down.")
    except Exception as error:
        wrapped = UigcError(f"Unexpected {type(error).__name__}: {error}; run with 'uigc --debug' and report it.")
        wrapped.__cause__ = error
        return wrapped


def map_ok(
    work: Callable[[list[S]], Sequence[T | UigcError]], outcomes: Sequence[S | UigcError]
) -> list[T | UigcError]:
    """Apply ``work`` to the successful items only; errors pass through in their original positions.

    ``work`` takes all successful items as one list and returns one outcome for each; it is not called for an empty one.
    """
    good = [outcome for outcome in outcomes if not isinstance(outcome, UigcError)]
    results = iter(work(good) if good else [])
    return [outcome if isinstance(outcome, UigcError) else next(results) for outcome in outcomes]
