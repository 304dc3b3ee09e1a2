"""One thread that does all the work of a kind."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from threading import RLock, Thread, current_thread
from typing import Any, TypeVar

from numpy.typing import NDArray

from uigc.runtime.errors import UsageError
from uigc.runtime.providers.base import Graph
from uigc.runtime.spans import carried

T = TypeVar("T")


class Worker:
    """A thread that is started when there is work, and does everything that it is given, in turn."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.forget()
        _WORKERS.add(self)

    def forget(self) -> None:
        """Leave the thread to the parent of a forked process, and start anew."""
        self._lock = RLock()
        self._work: SimpleQueue[Callable[[], Any]] = SimpleQueue()
        self._thread: Thread | None = None

    def do(self, work: Callable[[], T]) -> T:
        """Do the work in the thread, wait for it, and return what it returns or raise what it raises."""
        if current_thread() is self._thread:
            return work()
        with self._lock:
            if self._thread is None:
                # It is idle whenever nobody waits for it, so the process may end without it.
                self._thread = Thread(target=_work_off, args=(self._work,), name=self._name, daemon=True)
                self._thread.start()
        done: Future[T] = Future()
        self._work.put(partial(_fulfil, done, carried(work)))
        return done.result()

    def later(self, work: Callable[[], Any]) -> None:
        """Do the work in the thread some time. Takes no lock, so that the garbage collector may call it anywhere."""
        self._work.put(work)


def _work_off(queue: SimpleQueue[Callable[[], Any]]) -> None:
    while True:
        queue.get()()


def _fulfil(done: Future[T], work: Callable[[], T]) -> None:
    try:
        done.set_result(work())
    except BaseException as error:
        done.set_exception(error)
    finally:
        del done, work  # which the traceback of an error would keep alive


class WorkerGraph(Graph):
    """A graph that a worker runs, whoever calls it, and that it frees, whoever drops it."""

    def __init__(self, graph: Graph, worker: Worker) -> None:
        self._kept, self._worker = [graph], worker
        self._finalizer = weakref.finalize(self, worker.later, self._kept.clear)
        self._finalizer.atexit = False  # the worker has ended by then, and the process frees everything

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        return self._worker.do(lambda: self._open()(value))

    def _open(self) -> Graph:
        if not self._kept:
            raise UsageError("The graph is closed, and an open one is needed; load it again.")
        return self._kept[0]

    def close(self) -> None:
        self._worker.do(self._kept.clear)


_WORKERS: weakref.WeakSet[Worker] = weakref.WeakSet()


def _after_fork() -> None:
    for worker in list(_WORKERS):
        worker.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
