"""Many images: those of one size in batches, several batches at a time, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from uigc.runtime.errors import UigcError, UsageError
from uigc.runtime.outcomes import capture

S = TypeVar("S")
P = TypeVar("P")
R = TypeVar("R")
Numbered = tuple[int, P]
Outcomes = Sequence[R | UigcError]

REACH = 4  # how many batches ahead others of the same key are looked for


def check_counts(batch: int | None, jobs: int) -> None:
    """Refuse numbers that make no sense, before anything is done."""
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
    """What ``work`` makes of each source, in order; an error in the place of what fails.

    Sources are taken and prepared when they are needed, in the caller's thread. Those of one ``key`` make a batch of at
    most ``batch`` of one of them; ``jobs`` batches are worked on at a time, in a thread each. In memory are at most
    ``jobs`` + 1 batches, what is looked through for the next one, and the results that wait for those before them.
    """
    done: dict[int, R | UigcError] = {}
    running: deque[tuple[list[int], Future[Outcomes[R]]]] = deque()
    groups = _groups(sources, prepare, key, batch, done)
    turn = 0
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="uigc")
    try:
        while True:
            while len(running) <= jobs and (group := next(groups, None)):
                numbers, values = [number for number, _ in group], [value for _, value in group]
                running.append((numbers, pool.submit(copy_context().run, _outcomes, work, values)))
            while turn in done:
                yield done.pop(turn)
                turn += 1
            if not running:
                return
            numbers, future = running.popleft()
            done.update(zip(numbers, future.result(), strict=True))
    finally:
        pool.shutdown(cancel_futures=True)


def _outcomes(work: Callable[[list[P]], Outcomes[R]], values: list[P]) -> Outcomes[R]:
    outcomes = capture(partial(work, values))
    return [outcomes] * len(values) if isinstance(outcomes, UigcError) else outcomes


def _groups(
    sources: Iterable[S],
    prepare: Callable[[S], P],
    key: Callable[[P], Hashable],
    batch: Callable[[P], int],
    done: dict[int, R | UigcError],
) -> Iterator[list[Numbered[P]]]:
    """Sources with their numbers, in batches; the first one that waits is always in the next batch. Errors go to
    ``done`` at once."""
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
            fill(REACH * size)
        group = [item for item in waiting if key(item[1]) == wanted][:size]
        taken = {number for number, _ in group}
        waiting = [item for item in waiting if item[0] not in taken]
        yield group
