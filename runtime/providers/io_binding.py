"""ONNX Runtime sessions with input and output bound to device memory (IO binding), and sessions for one size each."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.providers.base import Graph
from uigc.runtime.providers.library import import_onnxruntime
from uigc.runtime.spans import span

SIZES = 8  # input sizes whose buffers, or sessions, are kept; the least recently used goes first

Shape = tuple[int, ...]
T = TypeVar("T")

_NO_GRAPH = -1  # the number under which ONNX Runtime neither captures nor replays


class _LRU(OrderedDict[Shape, T]):
    """A value for each of the last ``SIZES`` shapes that were asked for."""

    def find(self, shape: Shape, make: Callable[[], T]) -> T:
        self[shape] = found = self.pop(shape) if shape in self else make()
        if len(self) > SIZES:
            self.popitem(last=False)
        return found


@dataclass(frozen=True)
class _Buffers:
    """Device memory for one input size, and the binding and run options that use it."""

    binding: Any
    input: Any
    output: Any
    options: Any


class BoundSession(Graph):
    """A session whose input and output have fixed addresses on a device, for each input size.

    The input is copied to the same address every time and the output back from the same address, so that nothing is
    allocated for a size that was seen before. ``session``: one input and one output; ``device``, ``index``: ONNX
    Runtime's name of the device (``cuda``), and which of several; ``captured``: whether the session captures CUDA
    graphs, one for each size.
    """

    def __init__(self, session: Any, device: str, index: int = 0, captured: bool = False) -> None:
        self._session, self._device, self._index, self._captured = session, device, index, captured
        self._numbers = itertools.count(1)
        self._input: str = session.get_inputs()[0].name
        self._output: str = session.get_outputs()[0].name
        self._buffers: _LRU[_Buffers] = _LRU()
        self._lock = Lock()

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        with self._lock:
            buffers = self._buffers.find(value.shape, lambda: self._allocate(value))
            with span("copy in") as step:
                buffers.input.update_inplace(np.ascontiguousarray(value))
                step.moved(value.nbytes)
            self._session.run_with_iobinding(buffers.binding, buffers.options)  # returns when the device is done
            with span("copy out") as step:
                result: NDArray[Any] = buffers.output.numpy()
                if self._device == "cpu":  # where this is the memory of the next result, too, and no copy
                    result = result.copy()
                step.moved(result.nbytes)
            return result

    def _allocate(self, value: NDArray[Any]) -> _Buffers:
        """Allocate for the size of ``value``; a run without a CUDA graph shows how large the output is."""
        # A copy, because on a CPU the value is the array's own memory.
        given = import_onnxruntime().OrtValue.ortvalue_from_numpy(np.array(value), self._device, self._index)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input, given)
        binding.bind_output(self._output, self._device, self._index)
        self._session.run_with_iobinding(binding, self._options(_NO_GRAPH))
        (taken,) = binding.get_outputs()
        binding.bind_ortvalue_output(self._output, taken)
        return _Buffers(binding, given, taken, self._options(next(self._numbers)))

    def _options(self, graph: int) -> Any:
        """Options of a run that captures, or replays, the CUDA graph of that number."""
        if not self._captured:
            return None
        options = import_onnxruntime().RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(graph))
        return options


class SizedSessions(Graph):
    """A session for each input shape, started by ``start(shape)``.

    Whatever follows from the shape alone is computed when the session starts, and not for every input.
    """

    def __init__(self, start: Callable[[Shape], Graph]) -> None:
        self._start = start
        self._sessions: _LRU[Graph] = _LRU()
        self._lock = Lock()

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        with self._lock:
            session = self._sessions.find(value.shape, lambda: self._start(value.shape))
        return session(value)
