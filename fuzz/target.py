"""What a fuzzing target is, and the judgement of one input."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from uigc.runtime.errors import UigcError

SLOWEST = 10.0  # seconds that one input may take
LONGEST = 40_000  # characters of an error's sentence
Change = Callable[[bytes], bytes]
"""Alters bytes anywhere, without knowing what they mean."""


@dataclass(frozen=True)
class Target:
    """Something that reads what strangers wrote.

    ``check``: reads one input, and returns in a word what came of it; the only exceptions it may raise are
    :class:`UigcError`. It also asserts what must hold of whatever is accepted.
    ``mutate``: alters an input by its structure, so that checksums and lengths hold again in most cases.
    ``seeds``: makes inputs to begin with, by name. ``suffix``: that of their files.
    ``kind``: the kind of an input, in a word, under which it is counted.
    ``share``: its part of the executions of a run of all targets.
    ``warns``: whether Python's warnings are part of it, as of libraries; otherwise one is a find.
    """

    name: str
    check: Callable[[bytes], str]
    mutate: Callable[[bytes, random.Random, Change], bytes]
    seeds: Callable[[], Mapping[str, bytes]]
    suffix: str
    kind: Callable[[bytes], str]
    share: float
    warns: bool = False


class Find(AssertionError):
    """An input that did what no input may do."""


def judge(target: Target, data: bytes) -> str:
    """Return what came of an input: a word of the target's, or the name of the error that refused it.

    Raises a :class:`Find` for any other exception, and for an input that takes longer than :data:`SLOWEST`.
    """
    begin = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if target.warns else "error")
            outcome = target.check(data)
    except UigcError as error:
        outcome = type(error).__name__
        if not str(error).isprintable() or len(str(error)) > LONGEST or type(error) is UigcError:
            raise Find(f"{outcome} with the message {str(error)[:LONGEST]!r}") from error
    except Exception as error:
        raise Find(f"{type(error).__name__}: {error}") from error
    if (taken := time.perf_counter() - begin) > SLOWEST:
        raise Find(f"{outcome} after {taken:.0f} s")
    return outcome


def always(kind: str) -> Callable[[bytes], str]:
    """Return the function that finds every input to be of one kind."""
    return lambda data: kind
