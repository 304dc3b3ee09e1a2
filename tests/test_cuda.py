"""The CUDA provider where there is no GPU: what it says is missing, and its options."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest

from uigc.runtime import environment
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.graph_entry import graph_entry
from uigc.runtime.codec import Codec
from uigc.runtime.errors import BundleError, ProviderError, UsageError
from uigc.runtime.providers import ProviderOptions, cuda
from uigc.runtime.providers.onnx_runtime import CPU, CUDA, CUDA_GRAPHS


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing that was found out about the machine is remembered from one test to the next."""
    remembered = cuda.load_libraries, cuda._try, environment._gpu_names, environment._cuda_process
    for each in remembered:
        each.cache_clear()
    yield
    for each in remembered:
        each.cache_clear()


def wheel(offers: str = cuda.PROVIDER, preloading: str = "", fails: str = "") -> SimpleNamespace:
    """onnxruntime-gpu, with what it prints while it loads libraries, and how its session fails."""

    class Session:
        def __init__(self, model: bytes, settings: object, providers: list[str], enable_fallback: int) -> None:
            assert (model, providers, enable_fallback) == (cuda.CONVOLUTION, [cuda.PROVIDER], 0)

        def get_providers(self) -> list[str]:
            return [offers]

        def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> None:
            if fails:
                raise RuntimeError(fails)

    return SimpleNamespace(
        __version__="1.31.1",
        SessionOptions=SimpleNamespace,
        InferenceSession=Session,
        get_available_providers=lambda: [cuda.PROVIDER, "CPUExecutionProvider"],
        preload_dlls=lambda: print(preloading, end=""),
    )


NO_CUDNN = "cuDNN is unavailable: dlopen failed for libcudnn.so: libcudnn.so: cannot open shared object"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (wheel(preloading="Failed to load libcublasLt.so.13: libcublasLt.so.13: cannot open\nPlease follow https"),
         r"missing \(libcublasLt.so.13: cannot open\); install it with: pip install 'uigc\[gpu\]'\.$"),
        (wheel(fails=f"{NO_CUDNN} file: No such file"), r"missing \(libcudnn.so: cannot open .* 'uigc\[gpu\]'\.$"),
        (wheel(fails="CUDA failure 35: driver too old\nmore"), r"session fails \(CUDA failure 35: driver too old\); "),
        (wheel(preloading="Failed to load /a/libcublas.so: bad\n", offers="CPUExecutionProvider"), "offers .'CPUEx"),
        (wheel(offers="CPUExecutionProvider"), "offers .'CPUExecutionProvider'. instead"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(
    found: SimpleNamespace, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("cuda", "onnx_runtime"):
        monkeypatch.setattr(f"uigc.runtime.providers.{module}.import_onnxruntime", lambda: found)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    problem = CUDA.problem()
    assert problem is not None
    assert problem.startswith("The provider 'cuda' cannot start here: ")
    assert re.search(text, problem), problem
    assert capsys.readouterr().out == ""  # an image may be on its way there


def test_a_gpu_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cuda", "onnx_runtime"):
        monkeypatch.setattr(f"uigc.runtime.providers.{module}.import_onnxruntime", wheel)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    assert CUDA.problem() is None


def test_an_older_wheel_preloads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = wheel()
    del found.preload_dlls
    for module in ("cuda", "onnx_runtime"):
        monkeypatch.setattr(f"uigc.runtime.providers.{module}.import_onnxruntime", lambda: found)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    assert CUDA.problem() is None


def test_a_failure_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cuda", "onnx_runtime"):
        monkeypatch.setattr(f"uigc.runtime.providers.{module}.import_onnxruntime", lambda: wheel(fails="busy"))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    assert "busy" in str(CUDA.problem())
    for module in ("cuda", "onnx_runtime"):
        monkeypatch.setattr(f"uigc.runtime.providers.{module}.import_onnxruntime", wheel)
    assert CUDA.problem() is None


def test_after_a_fork_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cuda", "onnx_runtime"):
        monkeypatch.setattr(f"uigc.runtime.providers.{module}.import_onnxruntime", wheel)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    assert CUDA.problem() is None
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert "was used before this process was forked" in str(CUDA.problem())
    with pytest.raises(ProviderError, match="use the start method 'spawn', or make the codec in the child"):
        CUDA.load(Path("graph.onnx"), ProviderOptions())


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "CUDA_DRIVER", "libabsent.so.1")
    monkeypatch.setattr(environment, "CUDA_DRIVER", "libabsent.so.1")
    assert "no NVIDIA driver (libabsent.so.1: " in str(cuda.problem())
    assert environment.gpu_names() == ()
    with pytest.raises(ProviderError, match="Device 1 was asked for, and this machine has 0 GPUs"):
        CUDA.load(Path("graph.onnx"), ProviderOptions(device=1))


def test_a_device_of_a_provider_without_any(tiny: Codec) -> None:
    with pytest.raises(UsageError, match="'cpu' runs on no GPU, and device 1 was asked for"):
        Codec(tiny.bundle, device=1)
    with pytest.raises(UsageError, match="device is -1, and a whole number from 0 on is needed"):
        Codec(tiny.bundle, device=-1)


def test_measurements_are_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uigc.runtime.providers.base.gpu_names", lambda: ("GeForce", "H100"))
    assert CPU.measured_as(0) == "cpu"
    assert [CUDA.measured_as(device) for device in range(2)] == ["cuda on GeForce", "cuda on H100"]
    assert CUDA.measured_as(2) == "cuda on an unknown GPU"


def test_the_first_graph_is_a_convolution() -> None:
    model = onnx.load_model_from_string(cuda.CONVOLUTION)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    session = onnxruntime.InferenceSession(cuda.CONVOLUTION, providers=["CPUExecutionProvider"])
    one = np.full((1, 1, 1, 1), 3, np.float32)
    assert np.array_equal(session.run(None, {"x": one})[0], one)


def test_options_follow_the_proof() -> None:
    bundle = Bundle.load()
    for name in bundle.manifest["graphs"]:
        for precision in bundle.precisions(name):
            entry = graph_entry(bundle.graph(name, precision))
            assert (entry.graph, entry.precision) == (name, precision)
            options = cuda.session_options(entry, 2, captured=False)
            assert options["use_tf32"] == ("1" if name.startswith("stage") else "0")
            assert ("fuse_conv_bias" in options) == (precision == "fp16" and not name.startswith("stage"))
            assert options.get("prefer_nhwc", "0") == str(int((name, precision) == ("decoder", "fp16")))
            assert options["device_id"] == "2"
            fixed = cuda.session_options(entry, 0, captured=True)
            assert fixed.get("prefer_nhwc") == options.get("fuse_conv_bias")
            assert "enable_cuda_graph" not in options
    assert cuda.session_options(entry, 0, captured=True)["enable_cuda_graph"] == "1"
    entry.proof["tightest"] = {"operand": {"bits": 12}, "sums": {"bits": 20}}
    assert cuda.session_options(entry, 0, captured=True)["use_tf32"] == "0"
    with pytest.raises(BundleError, match=r"other.onnx is not a graph of the bundle"):
        graph_entry(bundle.path / "other.onnx")
    assert set(CUDA.pixel_precisions) == set(CUDA_GRAPHS.pixel_precisions) == {"fp32", "fp16"}
