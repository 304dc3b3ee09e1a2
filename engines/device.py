"""The CUDA runtime through ``cuda.bindings``, every status checked, and whether there is a GPU at all."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.environment import cuda_works
from uigc.runtime.errors import ProviderError
from uigc.runtime.providers.cuda import FORKED

MODULE = "cuda.bindings.runtime"


@dataclass(frozen=True)
class PinnedMemory:
    """Memory of the host that the device copies from and to by itself, while the host does something else."""

    address: int
    size: int

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the beginning of the memory as an array, which must not be used once the memory is freed."""
        count = math.prod(shape)
        assert count * dtype.itemsize <= self.size
        memory: Any = (ctypes.c_char * self.size).from_address(self.address)
        return np.frombuffer(memory, dtype, count).reshape(shape)


class Cuda:
    """The few calls that an engine needs, on the device of that index. Handles and addresses are integers or the
    package's own objects, and belong to the caller; each has its counterpart that ends it."""

    def __init__(self, index: int = 0) -> None:
        self.runtime: Any = importlib.import_module(MODULE)
        self.index = index

    @contextmanager
    def selected(self) -> Iterator[None]:
        """Use the device in this block, and after it what this thread used before, which other libraries go by.

        Every thread begins with the first device.
        """
        expect_no_fork()
        before = self.call("cudaGetDevice")
        if before != self.index:
            self.call("cudaSetDevice", self.index)
        try:
            yield
        finally:
            if before != self.index:
                self.runtime.cudaSetDevice(before)  # whatever its status: an error of the block is what counts

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function and return its results without the status.

        Raises a :class:`ProviderError` unless that is success.
        """
        status, *values = getattr(self.runtime, name)(*arguments)
        if int(status) != 0:
            # An error that is not taken is found by whoever asks next, such as TensorRT, and taken for its own.
            self.runtime.cudaGetLastError()
            raise ProviderError(
                f"{name} failed with {self.describe(status)}; check the GPU with nvidia-smi, and if memory ran out, "
                "build engines with a smaller --profile or --batch."
            )
        return values[0] if len(values) == 1 else values

    def describe(self, status: Any) -> str:
        _, text = self.runtime.cudaGetErrorString(status)
        return f"CUDA error {int(status)} ({text.decode() if isinstance(text, bytes) else text})"

    def target(self) -> str:
        """Return the GPU's compute capability, like ``sm86``."""
        names = ("cudaDevAttrComputeCapabilityMajor", "cudaDevAttrComputeCapabilityMinor")
        numbers = [
            self.call("cudaDeviceGetAttribute", getattr(self.runtime.cudaDeviceAttr, name), self.index)
            for name in names
        ]
        return "sm" + "".join(str(int(number)) for number in numbers)

    def model(self) -> str:
        """Return the GPU's model, like ``NVIDIA H100 PCIe``."""
        name = self.call("cudaGetDeviceProperties", self.index).name
        return (name.decode(errors="replace") if isinstance(name, bytes) else str(name)).strip("\0 ")

    def stream(self) -> Any:
        """Return a new stream that does not wait for the default stream, which other libraries use."""
        return self.call("cudaStreamCreateWithFlags", self.runtime.cudaStreamNonBlocking)

    def end_stream(self, stream: Any) -> None:
        self.call("cudaStreamDestroy", stream)

    def synchronize(self, stream: Any) -> None:
        self.call("cudaStreamSynchronize", stream)

    def timer(self, stream: Any) -> Callable[[], int]:
        """Start measuring the work of the stream; the result ends it, waits for it, and gives nanoseconds
        of the device's clock."""
        begun, ended = self.call("cudaEventCreate"), self.call("cudaEventCreate")
        self.call("cudaEventRecord", begun, stream)

        def stop() -> int:
            self.call("cudaEventRecord", ended, stream)
            self.call("cudaEventSynchronize", ended)
            milliseconds = self.call("cudaEventElapsedTime", begun, ended)
            for event in (begun, ended):
                self.call("cudaEventDestroy", event)
            return round(milliseconds * 1e6)

        return stop

    def allocate(self, size: int) -> int:
        return int(self.call("cudaMalloc", size))

    def free(self, address: int) -> None:
        self.call("cudaFree", address)

    def allocate_pinned(self, size: int) -> PinnedMemory:
        return PinnedMemory(int(self.call("cudaHostAlloc", size, self.runtime.cudaHostAllocDefault)), size)

    def free_pinned(self, memory: PinnedMemory) -> None:
        self.call("cudaFreeHost", memory.address)

    def upload(self, address: int, array: NDArray[Any], stream: Any) -> None:
        """Begin to copy a C-contiguous array to the device; it must stay as it is until the stream is synchronized."""
        kind = self.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", address, _address(array), array.nbytes, kind, stream)

    def download(self, array: NDArray[Any], address: int, stream: Any) -> None:
        """Begin to copy from the device into a C-contiguous array; it is filled once the stream is synchronized."""
        kind = self.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", _address(array), address, array.nbytes, kind, stream)

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:
        """Return the CUDA graph, ready to launch, of the work that ``work`` puts on the stream; nothing runs now."""
        mode = self.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", stream, mode)
        try:
            work()
        except BaseException:
            # Whatever its status: why the work failed is what counts.
            _, begun = self.runtime.cudaStreamEndCapture(stream)
            if begun:
                self.runtime.cudaGraphDestroy(begun)
            self.runtime.cudaGetLastError()
            raise
        graph = self.call("cudaStreamEndCapture", stream)
        try:
            return self.call("cudaGraphInstantiate", graph, 0)
        finally:
            self.call("cudaGraphDestroy", graph)

    def launch(self, graph: Any, stream: Any) -> None:
        self.call("cudaGraphLaunch", graph, stream)

    def end_graph(self, graph: Any) -> None:
        self.call("cudaGraphExecDestroy", graph)


def _address(array: NDArray[Any]) -> int:
    assert array.flags.c_contiguous
    return int(array.ctypes.data_as(ctypes.c_void_p).value or 0)


def expect_no_fork() -> None:
    """Raise a :class:`ProviderError` in a process that was forked from one that used CUDA."""
    if not cuda_works():
        raise ProviderError(f"{FORKED}.")


def check(index: int) -> None:
    """Raise a :class:`ProviderError` if there is no GPU of that index, or none works in this process."""
    expect_no_fork()
    count = Cuda().call("cudaGetDeviceCount")
    if index >= count:
        raise ProviderError(
            f"Device {index} was asked for, and this machine has {count} GPUs, counted from 0; give another."
        )


def problem() -> str | None:
    """Return None if a GPU can be used, else one sentence: the package, the driver or the GPU is missing."""
    try:
        known = MODULE in sys.modules or importlib.util.find_spec(MODULE) is not None
    except ImportError:  # not even the package around it
        known = False
    if not known:
        return "The package cuda-bindings is not installed; install it with: pip install 'cuda-bindings>=13,<14'."
    cuda = Cuda()
    _, driver = cuda.runtime.cudaDriverGetVersion()
    if not driver:
        return "There is no NVIDIA driver; install one that knows CUDA 13, or use the provider 'cpu'."
    if not cuda_works():
        return f"{FORKED}."
    status, count = cuda.runtime.cudaGetDeviceCount()
    if int(status) == int(cuda.runtime.cudaError_t.cudaErrorInsufficientDriver):
        return f"The NVIDIA driver knows CUDA {driver // 1000}, and 13 is needed; update the driver."
    if int(status) != 0 or not count:
        found = cuda.describe(status) if int(status) else "0 devices"
        return f"The NVIDIA driver finds no GPU ({found}); check with nvidia-smi, or use the provider 'cpu'."
    return None
