"""The CUDA runtime through ``cuda.bindings``, every status checked, and whether there is a GPU at all."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from uigc.runtime.errors import ProviderError

MODULE = "cuda.bindings.runtime"


class Cuda:
    """The few calls that an engine needs, on the current device. Handles and addresses are integers or the package's
    own objects, and belong to the caller; each has its counterpart that ends it."""

    def __init__(self) -> None:
        self.runtime: Any = importlib.import_module(MODULE)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function and return its results without the status.

        Raises a :class:`ProviderError` unless that is success.
        """
        status, *values = getattr(self.runtime, name)(*arguments)
        if int(status) != 0:
            raise ProviderError(
                f"{name} failed with {self.describe(status)}; check the GPU with nvidia-smi, and if memory ran out, "
                "scale the image down."
            )
        return values[0] if len(values) == 1 else values

    def describe(self, status: Any) -> str:
        _, text = self.runtime.cudaGetErrorString(status)
        return f"CUDA error {int(status)} ({text.decode() if isinstance(text, bytes) else text})"

    def target(self) -> str:
        """Return the GPU's compute capability, like ``sm86``."""
        names = ("cudaDevAttrComputeCapabilityMajor", "cudaDevAttrComputeCapabilityMinor")
        device = self.call("cudaGetDevice")
        numbers = [
            self.call("cudaDeviceGetAttribute", getattr(self.runtime.cudaDeviceAttr, name), device) for name in names
        ]
        return "sm" + "".join(str(int(number)) for number in numbers)

    def stream(self) -> Any:
        return self.call("cudaStreamCreate")

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

    def upload(self, address: int, array: NDArray[Any], stream: Any) -> None:
        """Begin to copy a C-contiguous array to the device; it must live until the stream is synchronized."""
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
            self.runtime.cudaStreamEndCapture(stream)  # whatever its status: why the work failed is what counts
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
    status, count = cuda.runtime.cudaGetDeviceCount()
    if int(status) == int(cuda.runtime.cudaError_t.cudaErrorInsufficientDriver):
        return f"The NVIDIA driver knows CUDA {driver // 1000}, and 13 is needed; update the driver."
    if int(status) != 0 or not count:
        found = cuda.describe(status) if int(status) else "0 devices"
        return f"The NVIDIA driver finds no GPU ({found}); check with nvidia-smi, or use the provider 'cpu'."
    return None
