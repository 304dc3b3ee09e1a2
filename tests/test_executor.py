"""Running engines, on a stand-in for a GPU: the order of calls, addresses, shapes, captures, and who frees what."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from tests.support import fake_gpu
from tests.support.fake_gpu import TensorRT
from uigc.engines import backend, build, engine_set
from uigc.engines.backend import Backend
from uigc.engines.executor import Executor
from uigc.engines.profile import Profile
from uigc.engines.sidecar import Sidecar
from uigc.runtime import providers
from uigc.runtime.bundle import Bundle
from uigc.runtime.errors import EngineError, ProviderError
from uigc.runtime.providers import ProviderOptions
from uigc.runtime.spans import Recorder, recording


@pytest.fixture(params=["tensorrt-rtx", "tensorrt"])
def trt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TensorRT:
    return fake_gpu.install(monkeypatch, request.param)


def built(name: str, path: Path, graph: str, sizes: tuple[str, ...], batch: int) -> tuple[Backend, bytes, Sidecar]:
    bundle, flavour = Bundle.load(path), backend.find(name)
    profiles = tuple(Profile.parse(size, batch) for size in sizes)
    (wanted,) = engine_set.resolve_order(bundle, flavour, engine_set.Order("fp16", profiles, (), (graph,)))
    return flavour, *build.build(bundle, flavour, wanted, profiles)


def executor(trt: TensorRT, path: Path, graph: str = "stage1", *sizes: str, batch: int = 1) -> Executor:
    return Executor(*built(trt.__name__.replace("_", "-"), path, graph, sizes or ("96x64",), batch))


def owned(trt: TensorRT) -> tuple[object, ...]:
    """What is still allocated on the device."""
    return trt.cuda.memory, trt.cuda.pinned, trt.cuda.streams, trt.cuda.graphs, trt.cuda.captured


def grid(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 18, shape, dtype=np.int32)


def test_it_computes_what_the_graph_does(trt: TensorRT, tiny_path: Path) -> None:
    reference = providers.find("cpu").load(Bundle.load(tiny_path).graph("stage1", "fp32"), ProviderOptions())
    with executor(trt, tiny_path) as run:
        outputs = [run(grid(1, 8, 8, seed=seed)) for seed in range(4)]
    for seed, output in enumerate(outputs):  # each is the caller's own, not overwritten by the next
        np.testing.assert_array_equal(output, reference(grid(1, 8, 8, seed=seed)))


def test_addresses_are_set_once_and_graphs_captured_after_the_first_run(trt: TensorRT, tiny_path: Path) -> None:
    run = executor(trt, tiny_path)
    trt.cuda.log.clear()
    for _ in range(4):
        run(grid(1, 8, 8))
    assert trt.cuda.log.count("cudaMalloc") == trt.cuda.log.count("cudaHostAlloc") == 2
    ours = trt.__name__ == "tensorrt"  # the other one captures by itself
    assert trt.cuda.log.count("cudaStreamBeginCapture") == int(ours)
    assert trt.cuda.log.count("cudaGraphLaunch") == (3 if ours else 0)
    run.close()


def test_the_devices_own_time_is_measured(trt: TensorRT, tiny_path: Path) -> None:
    """Of the first run, of that which is captured, and of what is replayed; on this device work takes a millisecond."""
    with executor(trt, tiny_path) as run:
        with recording(Recorder()) as recorder:
            for _ in range(4):
                run(grid(1, 8, 8))
        assert [step.device for step in recorder.spans if step.name == "engine"] == [1_000_000] * 4
        assert trt.cuda.events == {}
        trt.cuda.log.clear()
        run(grid(1, 8, 8))
        assert "cudaEventCreate" not in trt.cuda.log  # of those who do not ask


def test_profiles_and_shapes(trt: TensorRT, tiny_path: Path) -> None:
    with executor(trt, tiny_path, "decoder", "96x64", "16x16..64x64", batch=2) as run:
        for shape in ((1, 4, 6), (2, 4, 6), (1, 1, 1), (2, 4, 4), (1, 1, 1), (1, 1, 1), (1, 4, 6)):
            assert run(grid(*shape) % 16).shape == (shape[0], 16 * shape[1], 16 * shape[2], 3)
        assert len(trt.cuda.memory) == 4
        assert len(trt.cuda.graphs) <= 2
        for shape in ((1, 5, 5), (3, 4, 6), (4, 6), (1, 4, 6, 1)):
            with pytest.raises(ProviderError, match=r"of 96x64, at most 2 at a time; 16x16\.\.64x64, at most"):
                run(grid(*shape))
        with pytest.raises(ProviderError, match="takes int32 and was given int64"):
            run(grid(1, 4, 6).astype(np.int64))


def test_device_memory_is_freed(trt: TensorRT, tiny_path: Path) -> None:
    run = executor(trt, tiny_path)
    for _ in range(3):
        run(grid(1, 8, 8))
    run.close()
    assert not any(owned(trt))
    with pytest.raises(ProviderError, match="is closed"):
        run(grid(1, 8, 8))
    run.close()
    forgotten = executor(trt, tiny_path)
    forgotten(grid(1, 8, 8))
    del forgotten
    gc.collect()
    assert not any(owned(trt))


def test_what_fails_says_so(trt: TensorRT, tiny_path: Path) -> None:
    run = executor(trt, tiny_path)
    trt.cuda.room = 100
    with pytest.raises(
        ProviderError, match=r"cudaMalloc failed with CUDA error 2 \(out of memory\); .* smaller --profile or --b"
    ):
        run(grid(1, 8, 8))
    trt.cuda.room = 1 << 30
    trt.engines[-1].broken = True
    with pytest.raises(EngineError, match="could not run"):
        run(grid(1, 8, 8))
    run.close()
    assert not any(owned(trt))


FIXED = ["kernels", "for (1, 8, 8)"]


def test_compiled_kernels_are_kept(monkeypatch: pytest.MonkeyPatch, tiny_path: Path, tmp_path: Path) -> None:
    trt = fake_gpu.install(monkeypatch)
    engine, path = built("tensorrt-rtx", tiny_path, "stage1", ("96x64",), 1), tmp_path / "stage1.kernels"
    for known in (None, b"of another driver", b"kernels"):
        if known is not None:
            path.write_bytes(known)
        with Executor(*engine, path) as run:
            run(grid(1, 8, 8))
            assert path.read_text().split("\n") == FIXED
        assert len(trt.engines[-1].caches) == 1
    with Executor(*engine, tmp_path / "absent" / "kernels") as run:
        assert run(grid(1, 8, 8)).shape[0] == 1


def test_kernels_of_a_range_come_later_and_are_kept_at_the_end(
    monkeypatch: pytest.MonkeyPatch, tiny_path: Path, tmp_path: Path
) -> None:
    trt = fake_gpu.install(monkeypatch)
    engine, path = built("tensorrt-rtx", tiny_path, "decoder", ("96x64", "64x64..256x256"), 1), tmp_path / "kernels"
    small, large = grid(1, 4, 6) % 16, grid(1, 8, 16) % 16
    with Executor(*engine, path) as run:
        run(small)  # of the fixed profile, compiled before it runs
        for _ in range(3):
            run(large)
        assert path.read_text().split("\n") == ["kernels", "for (1, 4, 6)", "for all"]
    assert len(trt.engines[-1].caches) == 1  # one for both contexts
    assert path.read_text().split("\n") == ["kernels", "for (1, 4, 6)", "for (1, 8, 16)", "for all"]
    path.unlink()
    with Executor(*engine, path, ahead=True) as run:  # as ``uigc doctor --tune`` runs it: nothing stands in
        run(large)
    assert path.read_text().split("\n") == ["kernels", "for (1, 8, 16)"]


def test_kernels_that_nobody_verified_never_stand_in_for_those_of_a_stage(
    monkeypatch: pytest.MonkeyPatch, tiny_path: Path, tmp_path: Path
) -> None:
    fake_gpu.install(monkeypatch)
    engine, path = built("tensorrt-rtx", tiny_path, "stage1", ("64x64..256x256",), 1), tmp_path / "kernels"
    with Executor(*engine, path) as run:
        run(grid(1, 8, 16))
    assert path.read_text().split("\n") == ["kernels", "for (1, 8, 16)"]


def test_what_cannot_be_captured_runs_on_its_own(
    monkeypatch: pytest.MonkeyPatch, tiny_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trt = fake_gpu.install(monkeypatch, "tensorrt")
    reference = providers.find("cpu").load(Bundle.load(tiny_path).graph("stage1", "fp32"), ProviderOptions())
    with executor(trt, tiny_path) as run:
        run(grid(1, 8, 8))
        trt.cuda.captures = False
        for seed in range(3):
            np.testing.assert_array_equal(run(grid(1, 8, 8, seed=seed)), reference(grid(1, 8, 8, seed=seed)))
        assert trt.cuda.capturing is None
        assert trt.cuda.log.count("cudaStreamBeginCapture") == 1  # and never again
        assert trt.cuda.log[trt.cuda.log.index("cudaStreamEndCapture") + 1] == "cudaGetLastError"
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("stage1 in fp32 runs without a CUDA graph, which takes longer: cudaStreamEndCapture fail")


def test_a_failing_capture_ends(monkeypatch: pytest.MonkeyPatch, tiny_path: Path) -> None:
    trt = fake_gpu.install(monkeypatch, "tensorrt")
    with executor(trt, tiny_path) as run:
        run(grid(1, 8, 8))
        trt.engines[-1].broken = True
        with pytest.raises(EngineError, match="could not run"):
            run(grid(1, 8, 8))
        assert trt.cuda.capturing is None
        assert not trt.cuda.captured
        trt.engines[-1].broken = False
        assert run(grid(1, 8, 8)).shape[0] == 1
    assert not any(owned(trt))


def test_another_size_may_be_captured_again(monkeypatch: pytest.MonkeyPatch, tiny_path: Path) -> None:
    trt = fake_gpu.install(monkeypatch, "tensorrt")
    with executor(trt, tiny_path, "stage1", "64x64..256x256") as run:
        trt.cuda.captures = False
        for _ in range(3):
            run(grid(1, 8, 8))
        trt.cuda.captures = True
        for _ in range(3):
            run(grid(1, 8, 16))
        assert trt.cuda.log.count("cudaGraphLaunch") == 2


def test_what_cannot_be_loaded(trt: TensorRT, tiny_path: Path) -> None:
    run = executor(trt, tiny_path)
    with pytest.raises(EngineError, match="could not load stage1 in fp32: Magic tag does not match; build it again"):
        Executor(run.backend, b"no plan", run.sidecar)
    run.close()
    assert not trt.cuda.streams


def test_the_first_error_is_the_cause() -> None:
    log = backend.Log()
    log.errors += ["", " the cause.\nand more", "what it led to"]
    assert log.take() == "the cause"
    assert log.take() == "it gave no reason"
