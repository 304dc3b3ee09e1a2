"""The stand-in for a GPU has no call that the real packages lack, so neither has what is tested on it."""

from __future__ import annotations

import inspect
import re

import pytest

from tests.support import fake_gpu
from tests.support.fake_cuda import Cuda
from tests.support.paths import ROOT
from tests.support.tensorrt_calls import BOTH, RTX, lacking

trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not made for this system")
runtime = pytest.importorskip("cuda.bindings.runtime")


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_calls_of_cuda() -> None:
    for name in public(Cuda) - {"put", "device"}:
        real = getattr(runtime, name)
        if not inspect.isfunction(getattr(Cuda, name)):
            continue
        (signature,) = re.findall(rf"^{name}\((.*)\)$", str(real.__doc__), re.MULTILINE)[:1]
        wanted = len([part for part in signature.split(",") if part.strip()])
        assert len(inspect.signature(getattr(Cuda, name)).parameters) - 1 == wanted, f"{name}({signature})"


def test_every_call_of_cuda_is_in_the_stand_in() -> None:
    source = (ROOT / "engines" / "device.py").read_text(encoding="utf-8")
    for name in set(re.findall(r'"(cuda[A-Z]\w+)"|runtime\.(cuda[A-Z]\w+)', source)):
        found = "".join(name)
        owner = runtime.cudaDeviceAttr if found.startswith("cudaDevAttr") else runtime
        assert hasattr(owner, found), found
    assert hasattr(runtime.cudaMemcpyKind, "cudaMemcpyHostToDevice")
    assert hasattr(runtime.cudaMemcpyKind, "cudaMemcpyDeviceToHost")
    assert hasattr(runtime.cudaStreamCaptureMode, "cudaStreamCaptureModeThreadLocal")
    assert hasattr(runtime.cudaError_t, "cudaErrorInsufficientDriver")
    assert hasattr(runtime.cudaDeviceProp, "name")
    assert (Cuda.cudaStreamNonBlocking, Cuda.cudaHostAllocDefault) == (
        runtime.cudaStreamNonBlocking, runtime.cudaHostAllocDefault,
    )  # fmt: skip


def test_calls_of_tensorrt() -> None:
    assert public(fake_gpu.Context) <= set(dir(trt.IExecutionContext))
    assert public(fake_gpu.Engine) | {"num_io_tensors", "num_optimization_profiles"} <= set(dir(trt.ICudaEngine))
    assert public(fake_gpu.Builder) <= set(dir(trt.Builder))
    assert public(fake_gpu.TensorRT) - {"LAZY", "EAGER"} <= set(dir(trt))
    assert lacking(trt, BOTH) == []
    assert lacking(trt, RTX) == []
    assert trt.nptype(trt.int32) is not None
