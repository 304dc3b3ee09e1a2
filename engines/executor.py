"""Running an engine: device memory that lives as long as the executor, addresses set once, CUDA graphs.

What is in here needs a GPU; ``docs/ENGINES.md`` says what of it has not run on one yet.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.engines.backend import Backend
from uigc.engines.cuda_graph import CudaGraph
from uigc.engines.device import Cuda, PinnedMemory
from uigc.engines.kernel_cache import KernelCache
from uigc.engines.sidecar import Sidecar
from uigc.runtime.bundle.manifest import is_stage
from uigc.runtime.environment import cuda_works
from uigc.runtime.errors import ProviderError, UigcError
from uigc.runtime.providers import Graph
from uigc.runtime.spans import Timed, span

LOG = logging.getLogger("uigc")
REMEDY = "build it again with 'uigc build --force'"


class Executor(Graph):
    """An engine with one input and one output, as the runtime's ``Graph``: arrays of the host in and out.

    An output belongs to the caller; the executor never writes to it again. Device memory belongs to the executor, and
    is freed by :meth:`close`, at the end of a ``with`` block, or when the executor is collected. Threads take turns.
    """

    def __init__(
        self,
        backend: Backend,
        plan: bytes,
        sidecar: Sidecar,
        kernels: Path | None = None,
        device: int = 0,
        ahead: bool = False,
    ) -> None:
        """``kernels``: file in which the kernels that TensorRT for RTX compiles for this GPU are kept.

        ``device``, ``ahead``: see :class:`uigc.runtime.providers.ProviderOptions`.
        """
        self.backend, self.sidecar, self.cuda, self.ahead = backend, sidecar, Cuda(device), ahead
        self.label = f"{sidecar.source.graph} in {sidecar.source.precision}"
        self.kernels = KernelCache(backend, kernels)
        with self.cuda.selected():
            self._load(plan)
        self._contexts: dict[int, _ProfileContext] = {}
        self._turn = threading.Lock()
        self._finalizer = weakref.finalize(
            self, _release, self.cuda, self.stream, self._contexts, self.kernels, self._owned
        )

    def _load(self, plan: bytes) -> None:
        """Load the plan, and find out what its tensors are."""
        backend, trt = self.backend, self.backend.trt
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
        self._owned = ExitStack()
        self.stream = self.cuda.stream()
        self._owned.callback(_quietly, self.cuda.end_stream, self.stream)

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        """Run it on ``value``, whose type and shape must be ones that the engine was built for."""
        if value.dtype != self.dtypes[self.input]:
            raise ProviderError(
                f"The engine of {self.label} takes {self.dtypes[self.input]} and was given {value.dtype}; convert it."
            )
        with self._turn:
            if not self._finalizer.alive:
                raise ProviderError(f"The engine of {self.label} is closed; load it again.")
            with self.cuda.selected():
                return self._profile_context(value.shape).run(value)

    def close(self) -> None:
        """Free all device memory; the executor cannot be called any more."""
        with self._turn:
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
                    # The logits of a stage are to be those of kernels that ``uigc verify`` has seen.
                    fixed = self.ahead or least == largest or is_stage(self.sidecar.source.graph)
                    context = _execution_context(self.backend, self.engine, self.kernels, fixed)
                    self._contexts[index] = _ProfileContext(self, self._owned, context, index, largest)
                return self._contexts[index]
        built = "; ".join(f"{each['name']}, at most {each['batch']} at a time" for each in self.sidecar.profiles)
        raise ProviderError(
            f"The engine of {self.label} was built for images of {built}, and an input of {shape} does not fit; build "
            "it with a --profile for that size and a --batch for that many, or use another provider."
        )


def _release(
    cuda: Cuda, stream: Any, contexts: dict[int, _ProfileContext], kernels: KernelCache, owned: ExitStack
) -> None:
    """Free what an executor holds: whatever uses memory before the memory.

    A device that has failed once may fail every call from then on: each step is tried, and why the device failed was
    said before. In a forked process nothing is freed, because all belongs to the parent.
    """
    if not cuda_works():
        return
    with ExitStack() as device:
        _quietly(lambda: device.enter_context(cuda.selected()))
        with owned:
            try:
                _quietly(cuda.synchronize, stream)  # a run that failed may have left a copy
                _quietly(kernels.save)
            finally:
                for context in contexts.values():
                    _quietly(context.drop_graph)
                contexts.clear()


def _quietly(step: Callable[..., Any], *arguments: Any) -> None:
    try:
        step(*arguments)
    except UigcError as error:
        LOG.debug("while an engine is freed: %s", error)


class _ProfileContext(Timed):
    """One profile: its context, two buffers of the largest size on the device and two in pinned memory of the host,
    and the CUDA graph of the shape that ran last."""

    def __init__(self, owner: Executor, owned: ExitStack, context: Any, index: int, largest: tuple[int, ...]) -> None:
        self.backend, self.cuda, self.stream, self.kernels = owner.backend, owner.cuda, owner.stream, owner.kernels
        self.input, self.output, self.label = owner.input, owner.output, owner.label
        self.dtypes, self.context = owner.dtypes, context
        self._checked(self.context.set_optimization_profile_async(index, int(self.stream)), f"take profile {index}")
        self.synchronize()
        self.shape: tuple[int, ...] | None = None
        self.result: tuple[int, ...] = ()
        self._ran = False
        # TensorRT for RTX captures by itself.
        ours = not hasattr(owner.backend.trt, "CudaGraphStrategy")
        self._graph = CudaGraph(self.cuda, self.stream, self.label) if ours else None
        self._reshape(largest)
        self.address: dict[str, int] = {}
        self.host: dict[str, PinnedMemory] = {}
        with ExitStack() as made:  # all four, or none
            for name, shape in ((self.input, largest), (self.output, self.result)):
                size = int(np.prod(shape)) * self.dtypes[name].itemsize
                self.address[name] = self.cuda.allocate(size)
                made.callback(_quietly, self.cuda.free, self.address[name])
                self.host[name] = self.cuda.allocate_pinned(size)
                made.callback(_quietly, self.cuda.free_pinned, self.host[name])
                self._checked(self.context.set_tensor_address(name, self.address[name]), f"take the address of {name}")
            owned.push(made.pop_all())

    def run(self, value: NDArray[Any]) -> NDArray[Any]:
        if value.shape != self.shape:
            self._reshape(value.shape)
        with span("copy in") as step:
            given = self.host[self.input].array(value.shape, value.dtype)
            given[...] = value
            self.cuda.upload(self.address[self.input], given, self.stream)
            step.moved(value.nbytes)
        with span("engine", runs_on=self):
            if self._graph is None:
                self._enqueue()
            else:
                self._graph.run(self._enqueue)
        with span("copy out") as step:
            taken = self.host[self.output].array(self.result, self.dtypes[self.output])
            self.cuda.download(taken, self.address[self.output], self.stream)
            self.synchronize()
            result = taken.copy()
            step.moved(result.nbytes)
        if not self._ran:
            self._ran = True
            self.kernels.save()
        return result

    def drop_graph(self) -> None:
        """Free the CUDA graph: the next work is another, or none."""
        if self._graph is not None:
            self._graph.drop()

    def synchronize(self) -> None:
        """Wait for the device."""
        self.cuda.synchronize(self.stream)

    def timer(self) -> Callable[[], int]:
        """Measure the device from here on (see :func:`uigc.runtime.spans.span`)."""
        return self.cuda.timer(self.stream)

    def _reshape(self, shape: tuple[int, ...]) -> None:
        self.drop_graph()
        self.shape = None
        self._checked(self.context.set_input_shape(self.input, shape), f"take an input of {shape}")
        if self.context.infer_shapes():
            self._checked(None, f"infer the output's shape from {shape}")
        self.shape, self.result = shape, tuple(self.context.get_tensor_shape(self.output))

    def _enqueue(self) -> None:
        self._checked(self.context.execute_async_v3(int(self.stream)), "run")

    def _checked(self, value: Any, what: str) -> None:
        self.backend.checked(value, f"{what} ({self.label})", REMEDY)


def _execution_context(backend: Backend, engine: Any, kernels: KernelCache, fixed: bool) -> Any:
    """Return an execution context. ``fixed``: with TensorRT for RTX, compile the kernels of a shape before it runs, not
    in the background while slower ones for all shapes stand in."""
    trt = backend.trt
    if not hasattr(trt, "CudaGraphStrategy"):
        return backend.checked(engine.create_execution_context(), "make an execution context")
    config = backend.checked(engine.create_runtime_config(), "make a runtime configuration")
    config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    strategies = trt.DynamicShapesKernelSpecializationStrategy
    config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER if fixed else strategies.LAZY
    kernels.use(config)
    return backend.checked(engine.create_execution_context(config), "make an execution context")
