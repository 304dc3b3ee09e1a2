"""Sessions of ONNX Runtime whose input and output have their places on a device, once for each size; and sessions for
one size each."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.spans import span

SIZES = 8  # whose places, or sessions, are kept; the one that was not used for the longest time goes first

Shape = tuple[int, ...]
Run = Callable[[NDArray[Any]], NDArray[Any]]
T = TypeVar("T")

_NO_GRAPH = -1  # ONNX Runtime neither captures nor replays then


class _LRU(OrderedDict[Shape, T]):
    """What was made for each of the last ``SIZES`` shapes that were asked for."""

    def find(self, shape: Shape, make: Callable[[], T]) -> T:
        self[shape] = found = self.pop(shape) if shape in self else make()
        if len(self) > SIZES:
            self.popitem(last=False)
        return found


@dataclass(frozen=True)
class _Buffers:
    binding: Any
    input: Any
    output: Any
    options: Any


class BoundSession:
    """``session`` has one input and one output; ``device`` is ONNX Runtime's name of where it runs (``cuda``).

    The input is copied to the same address every time and the output back from the same address, so that nothing is
    allocated for a size that was seen before. ``captured``: the session captures CUDA graphs, one for each place.
    """

    def __init__(self, session: Any, device: str, captured: bool = False) -> None:
        self._session, self._device, self._captured = session, device, captured
        self._numbers = itertools.count(1)
        self._input: str = session.get_inputs()[0].name
        self._output: str = session.get_outputs()[0].name
        self._places: _LRU[_Buffers] = _LRU()
        self._lock = Lock()

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        with self._lock:
            place = self._places.find(value.shape, lambda: self._make(value))
            with span("copy in") as step:
                place.input.update_inplace(np.ascontiguousarray(value))
                step.moved(value.nbytes)
            self._session.run_with_iobinding(place.binding, place.options)  # returns when the device is done
            with span("copy out") as step:
                result = np.array(place.output.numpy())
                step.moved(result.nbytes)
            return result

    def _make(self, value: NDArray[Any]) -> _Buffers:
        """One run shows how large the output is."""
        from onnxruntime import OrtValue

        # A copy, because on a CPU the place is the array's own memory.
        given = OrtValue.ortvalue_from_numpy(np.array(value), self._device, 0)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input, given)
        binding.bind_output(self._output, self._device, 0)
        self._session.run_with_iobinding(binding, self._options(_NO_GRAPH))
        (taken,) = binding.get_outputs()
        binding.bind_ortvalue_output(self._output, taken)
        return _Buffers(binding, given, taken, self._options(next(self._numbers)))

    def _options(self, graph: int) -> Any:
        """Of a run that is captured, or replays, the CUDA graph of that number."""
        if not self._captured:
            return None
        from onnxruntime import RunOptions

        options = RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(graph))
        return options


class SizedSessions:
    """A session for each shape of the input, from ``make(shape)``: what follows from the shape alone is computed when
    the session is made, and not for every input."""

    def __init__(self, make: Callable[[Shape], Run]) -> None:
        self._make = make
        self._sessions: _LRU[Run] = _LRU()
        self._lock = Lock()

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        with self._lock:
            session = self._sessions.find(value.shape, lambda: self._make(value.shape))
        return session(value)
