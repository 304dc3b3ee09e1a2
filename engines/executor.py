"""Running an engine: device memory that lives as long as the executor, addresses set once, CUDA graphs.

What is in here needs a GPU; ``docs/ENGINES.md`` says what of it has not run on one yet.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.engines.backend import Backend
from uigc.engines.device import Cuda
from uigc.engines.sidecar import Sidecar
from uigc.runtime.errors import ProviderError
from uigc.runtime.io.atomic import replace as replace_file
from uigc.runtime.providers import Graph
from uigc.runtime.spans import Timed, span

REMEDY = "build it again with 'uigc build --force'"


class Executor(Graph):
    """An engine with one input and one output, as the runtime's ``Graph``: arrays of the host in and out.

    An output belongs to the caller; the executor never writes to it again. Device memory belongs to the executor, and
    is freed by :meth:`close`, at the end of a ``with`` block, or when the executor is collected. Threads take turns.
    """

    def __init__(self, backend: Backend, plan: bytes, sidecar: Sidecar, kernels: Path | None = None) -> None:
        """``kernels``: file in which the kernels that TensorRT for RTX compiles for this GPU are kept."""
        self.backend, self.sidecar, self.cuda, self.kernels = backend, sidecar, Cuda(), kernels
        self.label = f"{sidecar.source.graph} in {sidecar.source.precision}"
        trt = backend.trt
        runtime = backend.made(lambda: trt.Runtime(backend.logger), "start its runtime")
        self.engine = backend.checked(runtime.deserialize_cuda_engine(plan), f"load {self.label}", REMEDY)
        self._runtime = runtime  # must outlive the engine
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        modes = [self.engine.get_tensor_mode(name) for name in names]
        if sorted(modes, key=int) != [trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT]:
            raise ProviderError(f"The engine of {self.label} has not one input and one output; {REMEDY}.")
        self.input = names[modes.index(trt.TensorIOMode.INPUT)]
        self.output = names[modes.index(trt.TensorIOMode.OUTPUT)]
        self.dtypes = {name: np.dtype(trt.nptype(self.engine.get_tensor_dtype(name))) for name in names}
        self._contexts: dict[int, _ProfileContext] = {}
        self._turn = threading.Lock()
        self._owned = ExitStack()
        self.stream = self.cuda.stream()
        self._owned.callback(self.cuda.end_stream, self.stream)
        self._finalizer = weakref.finalize(self, self._owned.close)

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        """Run it on ``value``, whose type and shape must be ones that the engine was built for."""
        if not self._finalizer.alive:
            raise ProviderError(f"The engine of {self.label} is closed; load it again.")
        if value.dtype != self.dtypes[self.input]:
            raise ProviderError(
                f"The engine of {self.label} takes {self.dtypes[self.input]} and was given {value.dtype}; convert it."
            )
        with self._turn:
            return self._profile_context(value.shape).run(np.ascontiguousarray(value))

    def close(self) -> None:
        """Free all device memory; the executor cannot be called any more."""
        self._contexts.clear()
        self._finalizer()

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _profile_context(self, shape: tuple[int, ...]) -> _ProfileContext:
        """Return the context of the first profile that holds the shape."""
        for index in range(self.engine.num_optimization_profiles):
            least, _, largest = map(tuple, self.engine.get_tensor_profile_shape(self.input, index))
            fits = len(shape) == len(least) and all(
                low <= side <= high for low, side, high in zip(least, shape, largest, strict=True)
            )
            if fits:
                if index not in self._contexts:
                    self._contexts[index] = _ProfileContext(self, self._owned, index, largest)
                return self._contexts[index]
        sizes = "; ".join(str(profile["name"]) for profile in self.sidecar.profiles)
        raise ProviderError(
            f"The engine of {self.label} was built for images of {sizes}, and an input of {shape} is another size; "
            "build it with a --profile for that size, or use another provider."
        )


class _ProfileContext(Timed):
    """One profile: its context, its two buffers of the largest size, and the CUDA graph of the shape that ran last."""

    def __init__(self, owner: Executor, owned: ExitStack, index: int, largest: tuple[int, ...]) -> None:
        self.backend, self.cuda, self.stream = owner.backend, owner.cuda, owner.stream
        self.input, self.output, self.label = owner.input, owner.output, owner.label
        self.dtype = owner.dtypes[owner.output]
        self.context, self._kernels = _context(owner.backend, owner.engine, owner.kernels)
        stream = int(self.stream)
        self._checked(self.context.set_optimization_profile_async(index, stream), f"take profile {index}")
        self.synchronize()
        self.shape: tuple[int, ...] | None = None
        self.result: tuple[int, ...] = ()
        self._reshape(largest)
        sizes = {
            self.input: int(np.prod(largest)) * owner.dtypes[self.input].itemsize,
            self.output: int(np.prod(self.result)) * self.dtype.itemsize,
        }
        self.address = {}
        for name, size in sizes.items():
            self.address[name] = self.cuda.allocate(size)
            owned.callback(self.cuda.free, self.address[name])
            self._checked(self.context.set_tensor_address(name, self.address[name]), f"take the address of {name}")
        # TensorRT for RTX captures by itself.
        self._graph = _CudaGraph(self.cuda, self.stream) if self._kernels is None else None
        if self._graph:
            owned.callback(self._graph.drop)

    def run(self, value: NDArray[Any]) -> NDArray[Any]:
        if value.shape != self.shape:
            self._reshape(value.shape)
        with span("copy in") as step:
            self.cuda.upload(self.address[self.input], value, self.stream)
            step.moved(value.nbytes)
        with span("engine", runs_on=self):
            if self._graph is None:
                self._enqueue()
            else:
                self._graph.run(self._enqueue)
        result = np.empty(self.result, self.dtype)
        with span("copy out") as step:
            self.cuda.download(result, self.address[self.output], self.stream)
            self.synchronize()
            step.moved(result.nbytes)
        if self._kernels:
            self._kernels.keep()
        return result

    def synchronize(self) -> None:
        """Wait for the device."""
        self.cuda.synchronize(self.stream)

    def timer(self) -> Callable[[], int]:
        """Measure the device from here on (see :func:`uigc.runtime.spans.span`)."""
        return self.cuda.timer(self.stream)

    def _reshape(self, shape: tuple[int, ...]) -> None:
        if self.shape is not None and self._graph is not None:
            self._graph.drop()
        self.shape = None
        self._checked(self.context.set_input_shape(self.input, shape), f"take an input of {shape}")
        if self.context.infer_shapes():
            self._checked(None, f"infer the output's shape from {shape}")
        self.shape, self.result = shape, tuple(self.context.get_tensor_shape(self.output))

    def _enqueue(self) -> None:
        self._checked(self.context.execute_async_v3(int(self.stream)), "run")

    def _checked(self, value: Any, what: str) -> None:
        self.backend.checked(value, f"{what} ({self.label})", REMEDY)


class _CudaGraph:
    """A CUDA graph of the same work, captured after it has run once on its own: the first run may still allocate."""

    def __init__(self, cuda: Cuda, stream: Any) -> None:
        self._cuda, self._stream = cuda, stream
        self._graph: Any = None
        self._warm = False

    def run(self, work: Any) -> None:
        if self._graph is None and self._warm:
            self._graph = self._cuda.capture(self._stream, work)
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        else:
            work()
            self._warm = True

    def drop(self) -> None:
        graph, self._graph, self._warm = self._graph, None, False
        if graph is not None:
            self._cuda.end_graph(graph)


class _RuntimeCache:
    """TensorRT for RTX compiles kernels for the GPU at hand when they are first needed; a file keeps them."""

    def __init__(self, backend: Backend, config: Any, path: Path | None) -> None:
        self._path, self._cache = path, backend.checked(config.create_runtime_cache(), "make a cache of kernels")
        self._known = path.read_bytes() if path and path.is_file() else b""
        if self._known and not self._cache.deserialize(self._known):
            self._known = b""  # those of another GPU or driver are refused, and compiled anew
        self._ran = False
        backend.checked(config.set_runtime_cache(self._cache), "use a cache of kernels")

    def keep(self) -> None:
        """Write the kernels after the first run, if it compiled any.

        A folder that cannot be written is not an error.
        """
        if self._path and not self._ran:
            data = bytes(self._cache.serialize())
            if data != self._known:
                with suppress(OSError):
                    replace_file(self._path, lambda part: part.write_bytes(data))
        self._ran = True


def _context(backend: Backend, engine: Any, kernels: Path | None) -> tuple[Any, _RuntimeCache | None]:
    """Return an execution context, and with TensorRT for RTX, which captures CUDA graphs itself, its kernels."""
    strategy = getattr(backend.trt, "CudaGraphStrategy", None)
    if strategy is None:
        return backend.checked(engine.create_execution_context(), "make an execution context"), None
    config = backend.checked(engine.create_runtime_config(), "make a runtime configuration")
    config.cuda_graph_strategy = strategy.WHOLE_GRAPH_CAPTURE
    kept = _RuntimeCache(backend, config, kernels)
    return backend.checked(engine.create_execution_context(config), "make an execution context"), kept
