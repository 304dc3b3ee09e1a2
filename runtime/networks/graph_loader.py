"""Loading the graphs of a bundle: each once, and before its turn comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from uigc.runtime.providers import Graph


class GraphLoader:
    """Loads graphs by ``load(name)``, each once; calling it returns the graph of a name. Several threads may use it."""

    def __init__(self, load: Callable[[str], Graph]) -> None:
        self._load = load
        self._lock = Lock()
        self._loading: dict[str, Future[Graph]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def __call__(self, name: str) -> Graph:
        return self._begin(name).result()

    def prefetch(self, names: Iterable[str]) -> None:
        """Start loading these graphs, in this order, in the background; loading keeps one core busy."""
        for name in names:
            self._begin(name)

    def _begin(self, name: str) -> Future[Graph]:
        with self._lock:
            begun = self._loading.get(name)
            if begun is None or (begun.done() and begun.exception() is not None):
                self._pool = self._pool or ThreadPoolExecutor(1, "loading")
                begun = self._loading[name] = self._pool.submit(self._load, name)
            return begun
