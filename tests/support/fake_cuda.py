"""A stand-in for ``cuda.bindings.runtime`` on memory of the host, strict where a GPU would be.

Work waits in its stream until the host waits for that stream, the last moment at which a GPU would do it: copies read
their source and fill their target then, and a target in memory of the host holds poison until then. A graph replays
what was captured, as it was captured. While a capture goes on, nothing else may be asked for.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

Status = IntEnum(
    "Status",
    {
        "cudaSuccess": 0, "cudaErrorMemoryAllocation": 2, "cudaErrorInsufficientDriver": 35,
        "cudaErrorInvalidDevice": 101, "cudaErrorIllegalAddress": 700, "cudaErrorStreamCaptureUnsupported": 900,
    },
)  # fmt: skip
TEXTS = {
    2: b"out of memory", 35: b"insufficient driver", 101: b"invalid device ordinal", 700: b"an illegal memory access",
    900: b"not permitted",
}  # fmt: skip
Attribute = IntEnum("Attribute", {"cudaDevAttrComputeCapabilityMajor": 75, "cudaDevAttrComputeCapabilityMinor": 76})
Kind = IntEnum("Kind", {"cudaMemcpyHostToDevice": 1, "cudaMemcpyDeviceToHost": 2})
Work = Callable[[], None]
POISON = 0xA5


class Stream:
    """A handle as the package's own: an object with a number."""

    def __init__(self, number: int, device: int) -> None:
        self.number, self.device, self.work = number, device, list[Work]()

    def __int__(self) -> int:
        return self.number

    def finish(self) -> None:
        """Do what waits."""
        while self.work:
            self.work.pop(0)()


class Cuda(ModuleType):
    """``cuda.bindings.runtime``; ``log`` has the names of all calls."""

    cudaError_t, cudaDeviceAttr, cudaMemcpyKind = Status, Attribute, Kind
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaStreamNonBlocking, cudaHostAllocDefault = 1, 0

    def __init__(
        self,
        capability: tuple[int, int] = (8, 6),
        driver: int = 13000,
        devices: int = 1,
        models: tuple[bytes, ...] = (b"GPU A", b"GPU B"),
    ) -> None:
        super().__init__("cuda.bindings.runtime")
        self.capability, self.driver, self.devices, self.models = capability, driver, devices, models
        self.current = threading.local()
        self.memory: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.streams: dict[int, Stream] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.captured: dict[int, list[Work]] = {}
        self.capturing: list[Work] | None = None
        self.captures = True  # whether a capture succeeds
        self.lost = False  # whether a kernel has failed: an error that stays
        self.pinned_room = 1 << 30
        self.log: list[str] = []
        self.events: dict[int, int] = {}
        self.clock = 0  # milliseconds, of a device on which each piece of work takes one
        self.room = 1 << 30

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith("cuda") and callable(value) and not isinstance(value, type):
            self.log.append(name)
        return value

    @property
    def device(self) -> int:
        return getattr(self.current, "device", 0)  # in a new thread, the first one

    def cudaDriverGetVersion(self) -> tuple[Status, int]:
        return Status.cudaSuccess, self.driver

    def cudaGetDeviceCount(self) -> tuple[Status, int | None]:
        if self.driver < 13000:
            return Status.cudaErrorInsufficientDriver, None
        return Status.cudaSuccess, self.devices

    def cudaGetErrorString(self, status: Status) -> tuple[Status, bytes]:
        return Status.cudaSuccess, TEXTS[int(status)]

    def cudaGetLastError(self) -> tuple[Status]:
        return (Status.cudaSuccess,)

    def cudaSetDevice(self, device: int) -> tuple[Status]:
        if device >= self.devices:
            return (Status.cudaErrorInvalidDevice,)
        self.current.device = device
        return (Status.cudaSuccess,)

    def cudaGetDevice(self) -> tuple[Status, int]:
        return Status.cudaSuccess, self.device

    def cudaDeviceGetAttribute(self, attribute: Attribute, device: int) -> tuple[Status, int]:
        return Status.cudaSuccess, self.capability[attribute - Attribute.cudaDevAttrComputeCapabilityMajor]

    def cudaGetDeviceProperties(self, device: int) -> tuple[Status, SimpleNamespace]:
        return Status.cudaSuccess, SimpleNamespace(name=self.models[device] + bytes(3))

    def cudaMalloc(self, size: int) -> tuple[Status, int | None]:
        return self._allocate(self.memory, size)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Status, int | None]:
        return self._allocate(self.pinned, size if size <= self.pinned_room else self.room + 1)

    def _allocate(self, where: dict[int, Any], size: int) -> tuple[Status, int | None]:
        assert self.capturing is None
        if size > self.room:
            return Status.cudaErrorMemoryAllocation, None
        buffer = ctypes.create_string_buffer(size)
        ctypes.memset(buffer, POISON, size)
        where[ctypes.addressof(buffer)] = buffer
        return Status.cudaSuccess, ctypes.addressof(buffer)

    def cudaFree(self, address: int) -> tuple[Status]:
        for stream in self.streams.values():  # it waits for the device
            stream.finish()
        del self.memory[address]
        return (Status.cudaErrorIllegalAddress if self.lost else Status.cudaSuccess,)

    def cudaFreeHost(self, address: int) -> tuple[Status]:
        assert not any(stream.work for stream in self.streams.values())
        del self.pinned[address]
        return (Status.cudaSuccess,)

    def cudaMemcpyAsync(self, to: int, source: int, count: int, kind: Kind, stream: Stream) -> tuple[Status]:
        device, host = (to, source) if kind == Kind.cudaMemcpyHostToDevice else (source, to)
        assert count <= len(self.memory[device])
        assert count <= len(self.pinned[host])
        assert self.capturing is None
        if kind == Kind.cudaMemcpyDeviceToHost:
            ctypes.memset(to, POISON, count)
        self._open(stream).work.append(lambda: ctypes.memmove(to, source, count))
        return (Status.cudaSuccess,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Status, Stream]:
        assert flags == self.cudaStreamNonBlocking
        stream = Stream(1000 + len(self.log), self.device)
        self.streams[int(stream)] = stream
        return Status.cudaSuccess, stream

    def cudaStreamDestroy(self, stream: Stream) -> tuple[Status]:
        self._open(stream).finish()
        del self.streams[int(stream)]
        return (Status.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: Stream) -> tuple[Status]:
        assert self.capturing is None
        if self.lost:  # which does nothing more
            self._open(stream).work.clear()
            return (Status.cudaErrorIllegalAddress,)
        self._open(stream).finish()
        return (Status.cudaSuccess,)

    def cudaEventCreate(self) -> tuple[Status, int]:
        event = 1000 + len(self.log)
        self.events[event] = -1
        return Status.cudaSuccess, event

    def cudaEventRecord(self, event: int, stream: Stream) -> tuple[Status]:
        assert self.capturing is None
        self._open(stream).work.append(lambda: self.events.__setitem__(event, self.clock))
        return (Status.cudaSuccess,)

    def cudaEventSynchronize(self, event: int) -> tuple[Status]:
        for stream in self.streams.values():
            stream.finish()
        assert self.events[event] >= 0
        return (Status.cudaSuccess,)

    def cudaEventElapsedTime(self, start: int, end: int) -> tuple[Status, float]:
        assert self.events[start] >= 0
        return Status.cudaSuccess, float(self.events[end] - self.events[start])

    def cudaEventDestroy(self, event: int) -> tuple[Status]:
        del self.events[event]
        return (Status.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: Stream, mode: int) -> tuple[Status]:
        assert self.capturing is None
        assert mode == self.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        assert int(stream) in self.streams
        self.capturing = []
        return (Status.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: Stream) -> tuple[Status, int | None]:
        assert self.capturing is not None
        graph, (work, self.capturing) = len(self.log), (self.capturing, None)
        if not self.captures:
            return Status.cudaErrorStreamCaptureUnsupported, None
        self.captured[graph] = work
        return Status.cudaSuccess, graph

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Status, int]:
        self.graphs[len(self.log)] = list(self.captured[graph])
        return Status.cudaSuccess, len(self.log)

    def cudaGraphDestroy(self, graph: int) -> tuple[Status]:
        del self.captured[graph]
        return (Status.cudaSuccess,)

    def cudaGraphLaunch(self, graph: int, stream: Stream) -> tuple[Status]:
        assert self.capturing is None
        self._open(stream).work.extend(self.graphs[graph])
        return (Status.cudaSuccess,)

    def cudaGraphExecDestroy(self, graph: int) -> tuple[Status]:
        del self.graphs[graph]
        return (Status.cudaSuccess,)

    def _open(self, stream: Stream) -> Stream:
        """The stream, if it has not ended, and is one of the device that the thread uses."""
        assert self.streams[int(stream)].device == self.device
        return self.streams[int(stream)]

    def put(self, stream: int, work: Work) -> None:
        """Let a millisecond of work wait in the stream, or in the graph that is being captured."""

        def timed() -> None:
            work()
            self.clock += 1

        (self._open(self.streams[stream]).work if self.capturing is None else self.capturing).append(timed)
