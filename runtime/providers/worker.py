"""One thread that does all the work of a kind."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import traceback
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

LOG = logging.getLogger("uigc")

T = TypeVar("T")
Work = Callable[[], Any]


class Worker:
    """A thread that is started when there is work, and does everything that it is given, in turn.

    It ends with the process, after the work that it has begun; what is to be done after that, the caller does itself.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._begin()
        _WORKERS.add(self)

    def _begin(self) -> None:
        self._lock = RLock()
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._ended = False

    def forget(self) -> None:
        """Leave the thread, and what waits for it, to the parent of a forked process, and start anew."""
        # What waits may be the last reference to a graph of the parent: one more keeps it to the end of the process.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._work))
        self._begin()

    def do(self, work: Callable[[], T]) -> T:
        """Do the work in the thread, wait for it, and return what it returns or raise what it raises."""
        if current_thread() is self._thread:
            return work()
        done: Future[T] = Future()
        if not self._put(partial(_fulfil, done, carried(work))):
            return work()
        try:
            return done.result()
        except BaseException:
            done.cancel()  # if the caller is interrupted before its turn, nobody wants it any more
            raise
        finally:
            del done, work  # which the traceback of an error would keep alive

    def _put(self, work: Work) -> bool:
        """Give work to the thread; False if it has ended."""
        with self._lock:
            if self._ended:
                return False
            if self._thread is None:
                # A daemon, because Python would wait for another kind of thread before it calls stop().
                self._thread = Thread(target=_work_off, args=(self._work,), name=self._name, daemon=True)
                self._thread.start()
            self._work.put(work)
            return True

    @property
    def later(self) -> Callable[[Work], None]:
        """Do work in the thread some time, or never, if it has ended or is the parent's.

        Takes no lock, so that the garbage collector may call it anywhere. After a fork, what was taken from here before
        does not bring the parent's work to the child's thread.
        """
        return self._work.put

    def stop(self) -> None:
        """Wait for the work that was given, and end the thread."""
        with self._lock:
            self._ended = True
            if self._thread is not None and self._thread is not current_thread():
                self._work.put(None)
                self._thread.join()


def _work_off(queue: SimpleQueue[Work | None]) -> None:
    while (work := queue.get()) is not None:
        try:
            work()
        except BaseException:  # nobody waits for it, and the next work needs the thread
            LOG.exception("work that nobody waited for failed")
        del work


def _fulfil(done: Future[T], work: Callable[[], T]) -> None:
    try:
        if done.set_running_or_notify_cancel():
            done.set_result(work())
    except BaseException as error:
        _forget_variables(error)
        done.set_exception(error)
    finally:
        del done, work  # which the traceback of an error would keep alive


def _forget_variables(error: BaseException) -> None:
    """Let go of what the frames of an error and of its causes hold: whoever keeps the error would free it."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            traceback.clear_frames(each.__traceback__)
            waiting += [each.__cause__, each.__context__]


class WorkerGraph(Graph):
    """A graph that a worker runs, whoever calls it, and that it closes and frees, whoever drops it."""

    def __init__(self, graph: Graph, worker: Worker) -> None:
        self._kept, self._worker = [graph], worker
        self._finalizer = weakref.finalize(self, worker.later, partial(_close, self._kept))
        self._finalizer.atexit = False  # the worker has ended by then, and the process frees everything

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        return self._worker.do(lambda: self._open()(value))

    def _open(self) -> Graph:
        if not self._kept:
            raise UsageError("The graph is closed, and an open one is needed; load it again.")
        return self._kept[0]

    def close(self) -> None:
        self._worker.do(partial(_close, self._kept))

    def synchronize(self) -> None:
        self._worker.do(lambda: self._open().synchronize())

    def timer(self) -> Callable[[], int] | None:
        stop = self._worker.do(lambda: self._open().timer())
        return None if stop is None else partial(self._worker.do, stop)


def _close(kept: list[Graph]) -> None:
    while kept:
        kept.pop().close()


_WORKERS: weakref.WeakSet[Worker] = weakref.WeakSet()


def _after_fork() -> None:
    for worker in list(_WORKERS):
        worker.forget()


@atexit.register
def _at_exit() -> None:
    for worker in list(_WORKERS):
        worker.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
