"""Work that is captured as a CUDA graph, and replayed as long as it stays the same."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from uigc.engines.device import Cuda
from uigc.runtime.errors import UigcError

LOG = logging.getLogger("uigc")


class CudaGraph:
    """A CUDA graph of the same work, captured after it has run once on its own: the first run may still allocate.

    ``label``: what it is of, for the warning that it cannot be captured; then the work runs on its own every time.
    """

    def __init__(self, cuda: Cuda, stream: Any, label: str) -> None:
        self._cuda, self._stream, self._label = cuda, stream, label
        self._graph: Any = None
        self._warm, self._refused = False, False

    def run(self, work: Callable[[], None]) -> None:
        """Put the work on the stream, as a graph if there is one."""
        if self._graph is None and self._warm and not self._refused:
            self._graph = self._captured(work)
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        else:
            work()
            self._warm = True

    def drop(self) -> None:
        """Forget the graph: the next work is another."""
        graph, self._graph, self._warm, self._refused = self._graph, None, False, False
        if graph is not None:
            self._cuda.end_graph(graph)

    def _captured(self, work: Callable[[], None]) -> Any:
        try:
            return self._cuda.capture(self._stream, work)
        except UigcError as error:
            self._refused = True
            LOG.warning("%s runs without a CUDA graph, which takes longer: %s", self._label, error)
            return None
