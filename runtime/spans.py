"""Named spans of time that cost nothing unless someone records them.

The codec names its work, ``with span("network", stage) as step:``, and counts the bytes that it moves,
``step.moved(array.nbytes)``. To see them, run it inside ``with recording(Recorder()) as recorder:`` and read
``recorder.spans``. Providers may add spans of their own, such as ``copy in`` and ``copy out``, inside the one around
them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


@dataclass
class Span:
    """A finished piece of work.

    ``stage``: the stage of the prior that it belongs to, its own or that of the span around it; None outside all.
    ``thread``: the identifier of its thread; ``depth``: the number of spans around it.
    ``begun``, ``ended``: nanoseconds of one clock.
    ``children``: nanoseconds of it that lie in spans inside it.
    ``bytes``: the number of bytes that it moved.
    ``device``: nanoseconds of it by the clock of the device that did it; 0 if no device measured.
    """

    name: str
    stage: int | None
    thread: int
    depth: int
    begun: int
    ended: int = 0
    children: int = 0
    bytes: int = 0
    device: int = 0

    @property
    def own(self) -> int:
        """Nanoseconds of it that lie in no span inside it."""
        return self.ended - self.begun - self.children


class Timed:
    """Something that works on a device, and may return before the device has finished; subclasses override."""

    def synchronize(self) -> None:
        """Wait until the device has finished. By default there is nothing to wait for."""

    def timer(self) -> Callable[[], int] | None:
        """Start measuring on the device, and return a function that waits for it and returns the nanoseconds taken.

        By default None: the device measures nothing, and the span ends after :meth:`synchronize`.
        """
        return None


class Step(Protocol):
    """The open span that ``with span(...) as step`` binds."""

    def moved(self, count: int) -> None:
        """Add ``count`` to the bytes that the work moved."""

    def __enter__(self) -> Step: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Unrecorded:
    """The step returned when nothing is being recorded."""

    def moved(self, count: int) -> None:
        pass

    def __enter__(self) -> _Unrecorded:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Recorded:
    def __init__(self, recorder: Recorder, name: str, stage: int | None, runs_on: Timed | None) -> None:
        self._recorder, self._name, self._stage, self._runs_on = recorder, name, stage, runs_on

    def moved(self, count: int) -> None:
        self._span.bytes += count

    def __enter__(self) -> _Recorded:
        self._span = self._recorder.begin(self._name, self._stage)
        self._taken = self._runs_on.timer() if self._runs_on else None
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._taken:
                self._span.device = self._taken()
            elif self._runs_on:
                self._runs_on.synchronize()
        finally:
            self._recorder.end(self._span)


class _Stack(threading.local):
    def __init__(self) -> None:
        self.open: list[Span] = []


@dataclass
class Recorder:
    """Collects the spans of all threads that run in its context, in the order in which they end.

    ``on_begin`` is called with the name of each span and ``on_end`` without arguments, as NVTX ranges need it.
    """

    on_begin: Callable[[str], Any] = lambda name: None
    on_end: Callable[[], Any] = lambda: None
    spans: list[Span] = field(default_factory=list, init=False)
    _stack: _Stack = field(default_factory=_Stack, init=False)

    def begin(self, name: str, stage: int | None) -> Span:
        """Open a span in this thread; it inherits the stage of the span around it."""
        around = self._stack.open
        if stage is None and around:
            stage = around[-1].stage
        self.on_begin(name if stage is None else f"{name} {stage}")
        opened = Span(name, stage, threading.get_ident(), len(around), time.perf_counter_ns())
        around.append(opened)
        return opened

    def end(self, span: Span) -> None:
        """Close the span that this thread opened last, and keep it."""
        span.ended = time.perf_counter_ns()
        self.on_end()
        around = self._stack.open
        around.pop()
        if around:
            around[-1].children += span.ended - span.begun
        self.spans.append(span)


_UNRECORDED = _Unrecorded()
_current: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


def span(name: str, stage: int | None = None, runs_on: Timed | None = None) -> Step:
    """Open a span around a ``with`` block.

    ``runs_on``: the graph that does the work, if a device may still be busy when its call returns; while recording, the
    span ends when that device has finished.
    """
    recorder = _current.get()
    return _UNRECORDED if recorder is None else _Recorded(recorder, name, stage, runs_on)


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """Record the spans of the block. A thread records, too, if it runs in a copy of this context (``contextvars``)."""
    token = _current.set(recorder)
    try:
        yield recorder
    finally:
        _current.reset(token)


def carried(work: Callable[[], T]) -> Callable[[], T]:
    """Return ``work`` as it is to be called in another thread while this one waits for it: in a copy of this context,
    with its spans inside those that are open here."""
    recorder = _current.get()
    if recorder is None:
        return work
    context, stack = copy_context(), recorder._stack
    around = stack.open

    def run() -> T:
        own, stack.open = stack.open, around
        try:
            return context.run(work)
        finally:
            stack.open = own

    return run
