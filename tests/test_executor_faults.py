"""What an executor does when memory is short, the device is lost or changed, or the engine or its kernels are odd."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import fake_gpu
from tests.support.fake_gpu import TensorRT
from tests.test_executor import built, executor, grid, owned, trt
from uigc.engines.executor import Executor
from uigc.runtime.errors import EngineError, ProviderError

__all__ = ["trt"]  # the fixture


def flavour(trt: TensorRT) -> str:
    return trt.__name__.replace("_", "-")


def test_a_device_that_is_lost(trt: TensorRT, tiny_path: Path, tmp_path: Path) -> None:
    """Every call fails from then on: what the device said first is told, and everything is freed in its order."""
    run = Executor(*built(flavour(trt), tiny_path, "stage1", ("96x64",), 1), tmp_path / "kernels")
    for _ in range(3):
        run(grid(1, 8, 8))
    (tmp_path / "kernels").unlink(missing_ok=True)
    run.kernels._known = b""
    trt.cuda.lost = True
    trt.cuda.log.clear()
    with pytest.raises(ProviderError, match="cudaStreamSynchronize failed with CUDA error 700"), run:
        run(grid(1, 8, 8))
    assert not any(owned(trt))
    order = [name for name in trt.cuda.log if name in ("cudaGraphExecDestroy", "cudaFree", "cudaStreamDestroy")]
    assert order == ["cudaGraphExecDestroy"] * (trt.__name__ == "tensorrt") + ["cudaFree"] * 2 + ["cudaStreamDestroy"]
    assert (tmp_path / "kernels").is_file() == (trt.__name__ == "tensorrt_rtx")


def test_memory_that_is_short_is_given_back(trt: TensorRT, tiny_path: Path) -> None:
    run, value = executor(trt, tiny_path, "decoder"), grid(1, 4, 6) % 16
    trt.cuda.pinned_room = 1000  # bytes: enough for tokens, not for pixels
    for _ in range(2):
        with pytest.raises(ProviderError, match="cudaHostAlloc failed with CUDA error 2"):
            run(value)
        assert trt.cuda.log.count("cudaHostAlloc") % 2 == 0
        assert not trt.cuda.memory
        assert not trt.cuda.pinned
    trt.cuda.pinned_room = 1 << 30
    assert run(value).shape[0] == 1
    run.close()
    assert not any(owned(trt))


def test_the_device_of_the_caller_stays_its_own(monkeypatch: pytest.MonkeyPatch, tiny_path: Path) -> None:
    trt = fake_gpu.install(monkeypatch, devices=2)
    with Executor(*built("tensorrt-rtx", tiny_path, "stage1", ("96x64",), 1), device=1) as run:
        assert trt.cuda.device == 0
        run(grid(1, 8, 8))
        assert {stream.device for stream in trt.cuda.streams.values()} == {1}
        assert trt.cuda.device == 0
    assert trt.cuda.device == 0
    assert not any(owned(trt))


def test_a_process_that_was_forked(trt: TensorRT, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told why nothing works, and frees nothing, because everything is its parent's."""
    run = executor(trt, tiny_path)
    run(grid(1, 8, 8))
    with monkeypatch.context() as child:
        child.setattr("os.getpid", lambda: -1)
        with pytest.raises(ProviderError, match=r"before this process was forked.*'spawn', or make"):
            run(grid(1, 8, 8))
        run.close()
        assert len(trt.cuda.memory) == len(trt.cuda.pinned) == 2


def test_what_is_no_engine_of_ours(trt: TensorRT, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fake_gpu.Engine, "get_tensor_mode", lambda engine, name: TensorRT.TensorIOMode.INPUT)
        with pytest.raises(ProviderError, match="has not one input and one output"):
            executor(trt, tiny_path)
    monkeypatch.setattr(fake_gpu.Context, "infer_shapes", lambda context: ["tokens"])
    with (
        executor(trt, tiny_path) as run,
        pytest.raises(EngineError, match=r"infer the output's shape from \(1, 8"),
    ):
        run(grid(1, 8, 8))


def test_a_cache_of_kernels_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, tiny_path: Path, tmp_path: Path
) -> None:
    """It is a folder, it is refused, it cannot be written down: the engine runs, and no error is left for the next."""
    fake_gpu.install(monkeypatch)
    engine = built("tensorrt-rtx", tiny_path, "stage1", ("96x64",), 1)
    log, path = engine[0].log, tmp_path / "kernels"

    def refuse(kernels: fake_gpu.Kernels, known: bytes) -> bool:
        log.errors.append("another driver")
        return False

    def fail(kernels: fake_gpu.Kernels) -> None:
        log.errors.append("no memory")

    path.mkdir()
    with Executor(*engine, path) as run:
        assert run(grid(1, 8, 8)).shape[0] == 1
    path.rmdir()
    path.write_bytes(b"of another driver")
    monkeypatch.setattr(fake_gpu.Kernels, "deserialize", refuse)
    monkeypatch.setattr(fake_gpu.Kernels, "serialize", fail)
    with Executor(*engine, path) as run:
        assert run(grid(1, 8, 8)).shape[0] == 1
        assert log.errors == []
    assert log.errors == []
    assert path.read_bytes() == b"of another driver"
