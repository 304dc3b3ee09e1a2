"""A stand-in for ``cuda.bindings.runtime`` on memory of the host. It is strict where a GPU would be: addresses, sizes,
streams, and what a capture does and does not run."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

Status = IntEnum("Status", {"cudaSuccess": 0, "cudaErrorMemoryAllocation": 2, "cudaErrorInsufficientDriver": 35})
Attribute = IntEnum("Attribute", {"cudaDevAttrComputeCapabilityMajor": 75, "cudaDevAttrComputeCapabilityMinor": 76})
Kind = IntEnum("Kind", {"cudaMemcpyHostToDevice": 1, "cudaMemcpyDeviceToHost": 2})


class Cuda(ModuleType):
    """``cuda.bindings.runtime``; ``log`` has the names of all calls."""

    cudaError_t, cudaDeviceAttr, cudaMemcpyKind = Status, Attribute, Kind
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, capability: tuple[int, int] = (8, 6), driver: int = 13000, devices: int = 1) -> None:
        super().__init__("cuda.bindings.runtime")
        self.capability, self.driver, self.devices = capability, driver, devices
        self.memory: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.graphs: set[int] = set()
        self.work: dict[int, list[Callable[[], None]]] = {}
        self.capturing: list[Callable[[], None]] | None = None
        self.log: list[str] = []
        self.events: dict[int, int] = {}
        self.clock = 0  # milliseconds, of a device on which each piece of work takes one
        self.room = 1 << 30

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith("cuda") and callable(value) and not isinstance(value, type):
            self.log.append(name)
        return value

    def cudaDriverGetVersion(self) -> tuple[Status, int]:
        return Status.cudaSuccess, self.driver

    def cudaGetDeviceCount(self) -> tuple[Status, int | None]:
        if self.driver < 13000:
            return Status.cudaErrorInsufficientDriver, None
        return Status.cudaSuccess, self.devices

    def cudaGetErrorString(self, status: Status) -> tuple[Status, bytes]:
        return Status.cudaSuccess, {2: b"out of memory", 35: b"insufficient driver"}[int(status)]

    def cudaGetDevice(self) -> tuple[Status, int]:
        return Status.cudaSuccess, 0

    def cudaDeviceGetAttribute(self, attribute: Attribute, device: int) -> tuple[Status, int]:
        return Status.cudaSuccess, self.capability[attribute - Attribute.cudaDevAttrComputeCapabilityMajor]

    def cudaMalloc(self, size: int) -> tuple[Status, int | None]:
        if size > self.room:
            return Status.cudaErrorMemoryAllocation, None
        buffer = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(buffer)] = buffer
        return Status.cudaSuccess, ctypes.addressof(buffer)

    def cudaFree(self, address: int) -> tuple[Status]:
        del self.memory[address]
        return (Status.cudaSuccess,)

    def cudaMemcpyAsync(self, to: int, source: int, count: int, kind: Kind, stream: int) -> tuple[Status]:
        device = to if kind == Kind.cudaMemcpyHostToDevice else source
        assert stream in self.streams
        assert count <= len(self.memory[device])
        assert self.capturing is None
        ctypes.memmove(to, source, count)
        return (Status.cudaSuccess,)

    def cudaStreamCreate(self) -> tuple[Status, int]:
        stream = 1000 + len(self.log)
        self.streams.add(stream)
        return Status.cudaSuccess, stream

    def cudaStreamDestroy(self, stream: int) -> tuple[Status]:
        self.streams.remove(stream)
        return (Status.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Status]:
        assert stream in self.streams
        return (Status.cudaSuccess,)

    def cudaEventCreate(self) -> tuple[Status, int]:
        event = 1000 + len(self.log)
        self.events[event] = -1
        return Status.cudaSuccess, event

    def cudaEventRecord(self, event: int, stream: int) -> tuple[Status]:
        assert stream in self.streams
        assert self.capturing is None
        self.events[event] = self.clock
        return (Status.cudaSuccess,)

    def cudaEventSynchronize(self, event: int) -> tuple[Status]:
        assert self.events[event] >= 0
        return (Status.cudaSuccess,)

    def cudaEventElapsedTime(self, start: int, end: int) -> tuple[Status, float]:
        return Status.cudaSuccess, float(self.events[end] - self.events[start])

    def cudaEventDestroy(self, event: int) -> tuple[Status]:
        del self.events[event]
        return (Status.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[Status]:
        assert self.capturing is None
        self.capturing = []
        return (Status.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Status, int]:
        assert self.capturing is not None
        graph = len(self.log)
        self.work[graph], self.capturing = self.capturing, None
        return Status.cudaSuccess, graph

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Status, int]:
        self.graphs.add(len(self.log))
        self.work[len(self.log)] = list(self.work[graph])
        return Status.cudaSuccess, len(self.log)

    def cudaGraphDestroy(self, graph: int) -> tuple[Status]:
        del self.work[graph]
        return (Status.cudaSuccess,)

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[Status]:
        assert graph in self.graphs
        for work in self.work[graph]:
            self.put(work)
        return (Status.cudaSuccess,)

    def cudaGraphExecDestroy(self, graph: int) -> tuple[Status]:
        self.graphs.remove(graph)
        return (Status.cudaSuccess,)

    def put(self, work: Callable[[], None]) -> None:
        """Run, or remember for the graph that is being captured."""
        if self.capturing is not None:
            self.capturing.append(work)
            return
        work()
        self.clock += 1
