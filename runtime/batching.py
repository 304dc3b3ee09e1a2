"""Batching of many images: those of one size together, several batches at a time, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from uigc.runtime.errors import UigcError, UsageError
from uigc.runtime.outcomes import capture

S = TypeVar("S")  # a source
P = TypeVar("P")  # a prepared source
R = TypeVar("R")  # a result
Numbered = tuple[int, P]
Outcomes = Sequence[R | UigcError]

LOOKAHEAD = 4  # batches that are looked through for sources of the same key


def check_counts(batch: int | None, jobs: int) -> None:
    """Refuse numbers below 1 before any work is done."""
    if jobs < 1 or (batch is not None and batch < 1):
        raise UsageError(f"Batches of {batch} and {jobs} jobs were asked for; give at least 1 of both.")


def in_batches(
    sources: Iterable[S],
    prepare: Callable[[S], P],
    key: Callable[[P], Hashable],
    batch: Callable[[P], int],
    work: Callable[[list[P]], Outcomes[R]],
    jobs: int,
) -> Iterator[R | UigcError]:
    """Yield the result of ``work`` for each source in order, or the error that takes its place.

    Sources are read and prepared as they are needed, in the caller's thread. Those with the same ``key`` form batches,
    whose size is at most ``batch`` of their first one; ``jobs`` batches are processed at a time, each in a thread of
    its own. Memory holds at most ``jobs`` + 1 batches, the sources looked through for the next one, and the results
    that wait for earlier ones.
    """
    done: dict[int, R | UigcError] = {}  # finished, but not yet yielded
    running: deque[tuple[list[int], Future[Outcomes[R]]]] = deque()
    groups = _groups(sources, prepare, key, batch, done)
    turn, wait = 0, True
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="uigc")
    try:
        while True:
            # Start batches until one waits for a thread, then yield all results whose turn has come.
            while len(running) <= jobs and (group := next(groups, None)):
                numbers, values = [number for number, _ in group], [value for _, value in group]
                running.append((numbers, pool.submit(copy_context().run, _outcomes, work, values)))
            while turn in done:
                yield done.pop(turn)
                turn += 1
            if not running:
                return
            # Wait for the oldest batch.
            numbers, future = running.popleft()
            done.update(zip(numbers, future.result(), strict=True))
    except (KeyboardInterrupt, GeneratorExit):
        wait = False  # for batches in progress: the garbage collector may be here, under locks that they need
        raise
    finally:
        pool.shutdown(wait, cancel_futures=True)


def _outcomes(work: Callable[[list[P]], Outcomes[R]], values: list[P]) -> Outcomes[R]:
    """Process a batch; if ``work`` raises, its error is the outcome of every item."""
    outcomes = capture(partial(work, values))
    return [outcomes] * len(values) if isinstance(outcomes, UigcError) else outcomes


def _groups(
    sources: Iterable[S],
    prepare: Callable[[S], P],
    key: Callable[[P], Hashable],
    batch: Callable[[P], int],
    done: dict[int, R | UigcError],
) -> Iterator[list[Numbered[P]]]:
    """Yield batches of numbered sources; the source that has waited longest is always in the next batch.

    Errors in reading or preparing a source go to ``done`` at once.
    """
    numbered = enumerate(sources)
    waiting: list[Numbered[P]] = []

    def fill(count: int) -> None:
        while len(waiting) < count and (following := next(numbered, None)):
            number, source = following
            value = capture(partial(prepare, source))
            if isinstance(value, UigcError):
                done[number] = value
            else:
                waiting.append((number, value))

    while True:
        fill(1)
        if not waiting:
            return
        first = waiting[0][1]
        size, wanted = batch(first), key(first)
        if size > 1:
            fill(LOOKAHEAD * size)
        group = [item for item in waiting if key(item[1]) == wanted][:size]
        taken = {number for number, _ in group}
        waiting = [item for item in waiting if item[0] not in taken]
        yield group
