"""Loading the graphs of a bundle: each once, and before its turn comes."""

from __future__ import annotations

import ctypes
import logging
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import nullcontext
from threading import Lock
from weakref import WeakSet

from uigc.runtime.errors import UsageError
from uigc.runtime.providers import Graph

LOG = logging.getLogger("uigc")


class GraphLoader:
    """Loads graphs by ``load(name)``, each once; calling it returns the graph of a name. Several threads may use it.

    ``threads``: how many graphs are loaded at a time; the first one is loaded alone, because with it a provider may
    prepare what all of its graphs share.

    After a fork, the child loads its graphs anew: neither the loading thread nor the threads of the provider exist in
    it.
    """

    def __init__(self, load: Callable[[str], Graph], threads: int = 1) -> None:
        self._load, self._threads, self._closed = load, threads, False
        self._start()
        _LOADERS.add(self)

    def _start(self) -> None:
        self._lock, self._alone = Lock(), Lock()
        self._loading: dict[str, Future[Graph]] = {}
        self._loaded: dict[str, Graph] = {}
        self._pool: ThreadPoolExecutor | None = None

    def __call__(self, name: str) -> Graph:
        try:
            return self._loaded.get(name) or self._begin(name).result()
        except CancelledError:  # it was closed while this thread waited
            raise _closed() from None

    def prefetch(self, names: Iterable[str]) -> None:
        """Start loading these graphs, in this order, in the background; each thread keeps one core busy."""
        for name in names:
            if name not in self._loaded:
                self._begin(name)

    def close(self) -> None:
        """Close all graphs, and raise the first error of that; from now on a call raises a :class:`UsageError`."""
        with self._lock:
            loading, self._loading, self._closed = self._loading, {}, True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)
        self._loaded = {}
        errors = []
        for begun in loading.values():
            if not begun.cancelled() and begun.exception() is None:
                try:
                    begun.result().close()
                except Exception as error:  # of any provider
                    errors.append(error)
        if errors:
            raise errors[0]

    def forget(self) -> None:
        """Leave all graphs to the parent of a forked process, and start with none."""
        # Closing a graph waits for its threads, which do not exist here: one more reference keeps the parent's graphs,
        # and their memory, to the end of the process.
        for inherited in (self._loading, self._loaded, self._pool):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))
        self._start()

    def _begin(self, name: str) -> Future[Graph]:
        with self._lock:
            if self._closed:
                raise _closed()
            begun = self._loading.get(name)
            if begun is None or (begun.done() and begun.exception() is not None):
                self._pool = self._pool or ThreadPoolExecutor(self._threads, "loading")
                begun = self._loading[name] = self._pool.submit(self._timed, name)
            return begun

    def _timed(self, name: str) -> Graph:
        begun = time.perf_counter()
        with nullcontext() if self._loaded else self._alone:
            graph = self._loaded[name] = self._load(name)
        LOG.debug("loaded %s in %.2f s", name, time.perf_counter() - begun)
        return graph


def _closed() -> UsageError:
    return UsageError("The codec is closed, and an open one is needed; make a new Codec.")


_LOADERS: WeakSet[GraphLoader] = WeakSet()


def _after_fork() -> None:
    for loader in list(_LOADERS):
        loader.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
