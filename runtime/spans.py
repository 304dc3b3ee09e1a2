"""Where the time goes: named spans that cost nothing unless someone records.

Code says what it is doing, ``with span("network", stage) as step:``, and what it moved, ``step.moved(array.nbytes)``.
Who wants to know runs it inside ``with recording(Recorder()) as recorder:`` and finds the spans in ``recorder.spans``.
Providers may add spans of their own, such as ``copy in`` and ``copy out``, inside the one that calls them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol


@dataclass
class Span:
    """A finished piece of work. ``begun`` and ``ended`` in nanoseconds of one clock; ``children``: nanoseconds of it
    that lie in spans inside it; ``bytes`` that it moved; ``stage`` of the prior, its own or that of the span around
    it, None outside of all; ``device``: nanoseconds of it by the clock of the device that did it, 0 if none says."""

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
        """Nanoseconds that lie in no span inside it."""
        return self.ended - self.begun - self.children


class Step(Protocol):
    """What ``with span(...) as step`` gives."""

    def moved(self, count: int) -> None:
        """Say that the work moved ``count`` bytes more."""

    def __enter__(self) -> Step: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Unrecorded:
    """The step of those who do not ask."""

    def moved(self, count: int) -> None:
        pass

    def __enter__(self) -> _Unrecorded:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Recorded:
    def __init__(self, recorder: Recorder, name: str, stage: int | None, runs_on: object) -> None:
        self._recorder, self._name, self._stage = recorder, name, stage
        self._synchronize: Callable[[], object] | None = getattr(runs_on, "synchronize", None)
        self._timer: Callable[[], Callable[[], int]] | None = getattr(runs_on, "timer", None)

    def moved(self, count: int) -> None:
        self._span.bytes += count

    def __enter__(self) -> _Recorded:
        self._span = self._recorder.begin(self._name, self._stage)
        self._taken = self._timer() if self._timer else None
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._taken:
                self._span.device = self._taken()
            elif self._synchronize:
                self._synchronize()
        finally:
            self._recorder.end(self._span)


class _Stack(threading.local):
    def __init__(self) -> None:
        self.open: list[Span] = []


@dataclass
class Recorder:
    """Collects spans, of all threads that run in its context, in the order in which they end.

    ``on_begin`` is called with the name of each span and ``on_end`` without anything, as profilers of devices want it.
    """

    on_begin: Callable[[str], Any] = lambda name: None
    on_end: Callable[[], Any] = lambda: None
    spans: list[Span] = field(default_factory=list, init=False)
    _stack: _Stack = field(default_factory=_Stack, init=False)

    def begin(self, name: str, stage: int | None) -> Span:
        around = self._stack.open
        if stage is None and around:
            stage = around[-1].stage
        self.on_begin(name if stage is None else f"{name} {stage}")
        opened = Span(name, stage, threading.get_ident(), len(around), time.perf_counter_ns())
        around.append(opened)
        return opened

    def end(self, span: Span) -> None:
        span.ended = time.perf_counter_ns()
        self.on_end()
        around = self._stack.open
        around.pop()
        if around:
            around[-1].children += span.ended - span.begun
        self.spans.append(span)


_UNRECORDED = _Unrecorded()
_current: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


def span(name: str, stage: int | None = None, runs_on: object = None) -> Step:
    """A piece of work, for ``with``. ``runs_on``: the graph that does it; if it has a method ``synchronize``, the span
    ends after that has waited for the device. If it has a method ``timer``, that begins to measure on the device, and
    what it returns is called in the end: it waits, and gives nanoseconds."""
    recorder = _current.get()
    return _UNRECORDED if recorder is None else _Recorded(recorder, name, stage, runs_on)


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """Record what the block does. A thread records if it runs in a copy of this context (``contextvars``)."""
    token = _current.set(recorder)
    try:
        yield recorder
    finally:
        _current.reset(token)
