"""Engines of a folder: what they are known by, when they are refused, and the codec running on them (on a stand-in for
a GPU)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support import fake_gpu
from tests.support.engine_folder import fill
from uigc.engines import backend, engine_set, sidecar
from uigc.engines.provider import FOLDER, TensorRT
from uigc.runtime import providers
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.seal import sealed
from uigc.runtime.codec import Codec
from uigc.runtime.errors import (
    BundleError,
    DependencyError,
    EngineError,
    ExitCode,
    ProviderError,
    UigcError,
    UsageError,
)
from uigc.runtime.exactness.verify import examine_all
from uigc.runtime.outcomes import unwrap
from uigc.runtime.progress import silent
from uigc.runtime.providers import ProviderOptions
from uigc.runtime.spans import Recorder, recording

STAGES = tuple(f"stage{stage}" for stage in range(6))


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> fake_gpu.TensorRT:
    return fake_gpu.install(monkeypatch)


@pytest.fixture
def folder(trt: fake_gpu.TensorRT, tiny_path: Path, tmp_path: Path) -> Path:
    fill(tmp_path / "engines", tiny_path)
    return tmp_path / "engines"


def refused(folder: Path, bundle: Path, graph: str = "stage0.int8", name: str = "tensorrt-rtx") -> str:
    """The sentence with which an engine is refused."""
    with pytest.raises(EngineError) as refusal:
        TensorRT(name, folder).load(bundle / f"{graph}.onnx", ProviderOptions())
    text = str(refusal.value)
    assert "\n" not in text
    assert f"build it with 'uigc build {bundle} --backend {name} --precision" in text
    assert text.endswith(f"-o {folder}'.")
    return text


def change(folder: Path, engine: str = "stage0.int8", **facts: object) -> None:
    """A sidecar that says something else, and is consistent."""
    path = sidecar.plan_path(folder, *engine.split("."))
    found = sidecar.Sidecar.read(path)
    for name, value in facts.items():
        object.__setattr__(found, name, value)
    found.write(path)


@pytest.mark.parametrize("name", ["tensorrt-rtx", "tensorrt"])
def test_the_codec_runs_on_engines_unchanged(
    name: str, monkeypatch: pytest.MonkeyPatch, tiny_path: Path, tmp_path: Path
) -> None:
    fake_gpu.install(monkeypatch, name)
    fill(tmp_path, tiny_path, "mixed", name)
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    plain = Codec(tiny_path, pixel_precision="fp16")
    codec = Codec(tiny_path, provider=name, engines=tmp_path)
    assert (codec.precision, codec.pixel_precision) == ("int8", "fp16")
    for mask in ("entire", "edge", "edge_more"):
        with recording(Recorder()) as recorder:
            data = codec.compress(image, mask)
        assert data == plain.compress(image, mask)
        assert {"copy in", "engine", "copy out"} <= {span.name for span in recorder.spans}
        np.testing.assert_array_equal(codec.decompress(data), plain.decompress(data))
    with pytest.raises(ProviderError, match="built for images of 96x64"):
        codec.compress(np.zeros((300, 300, 3), np.uint8))


def test_batches_in_threads(trt: fake_gpu.TensorRT, tiny_path: Path, tmp_path: Path) -> None:
    fill(tmp_path, tiny_path, batch=3)
    assert providers.find("tensorrt-rtx", tmp_path).batch == 3
    codec, plain = Codec(tiny_path, provider="tensorrt-rtx", engines=tmp_path), Codec(tiny_path, pixel_precision="fp16")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (64, 96, 3), dtype=np.uint8) for _ in range(7)]
    files = list(codec.compress_many(images, jobs=3))
    assert files == [plain.compress(image) for image in images]
    for file, pixels in zip(files, codec.decompress_many(files, jobs=3), strict=True):
        np.testing.assert_array_equal(pixels, plain.decompress(file))
    with pytest.raises(ProviderError, match=r"of 96x64, at most 3 at a time, and .* a --batch for that many"):
        list(map(unwrap, codec.decompress_many(files, batch=4)))
    fill(tmp_path, tiny_path, batch=2, graphs=("decoder",))
    assert providers.find("tensorrt-rtx", tmp_path).batch == 2  # as many as each of the engines takes


def test_verify_runs_on_engines(trt: fake_gpu.TensorRT, tiny_path: Path, tmp_path: Path) -> None:
    from uigc.runtime.exactness import conformance

    fill(tmp_path, tiny_path, "fp16", size="16x16..384x384", batch=8, graphs=STAGES)
    bundle, provider = Bundle.load(tiny_path), providers.find("tensorrt-rtx", tmp_path)
    solved = conformance.make_cases(bundle, 12, [], 0, 1, silent)
    (outcome,) = examine_all(bundle, [provider], solved, silent)
    assert (outcome.precision, outcome.different, outcome.error) == ("fp32", 0, None)
    assert outcome.values == sum(case.predictions.size for case in solved)
    assert providers.available(tmp_path)[-1] == provider


def test_what_is_there_is_not_built_again(trt: fake_gpu.TensorRT, tiny_path: Path, tmp_path: Path) -> None:
    assert fill(tmp_path, tiny_path) == [True] * 8
    assert fill(tmp_path, tiny_path) == [False] * 8
    assert fill(tmp_path, tiny_path, targets=("sm89",)) == [True] * 8
    assert fill(tmp_path, tiny_path, targets=("sm89",), size="hd", graphs=("decoder",)) == [True]
    (tmp_path / "encoder.fp16.engine").write_bytes(b"short")
    assert fill(tmp_path, tiny_path, targets=("sm89",)) == [True, *[False] * 6, True]
    trt.__version__ = "1.7.2"
    assert fill(tmp_path, tiny_path, targets=("sm89",)) == [True] * 8
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".engine"] * 8 + [".json"] * 8


def test_tensorrt_builds_on_its_gpu(monkeypatch: pytest.MonkeyPatch, tiny_path: Path, tmp_path: Path) -> None:
    fake_gpu.install(monkeypatch, "tensorrt", "11.4", capability=(9, 0))
    fill(tmp_path, tiny_path, name="tensorrt", graphs=("decoder",))
    found = sidecar.Sidecar.read(tmp_path / "decoder.fp16.engine")
    assert found.targets == ("sm90",)
    assert list(found.products) == ["fp16"]
    assert (tmp_path / engine_set.TIMING_CACHE).read_bytes() == b"timings"
    with pytest.raises(UsageError, match="builds for the GPU it runs on"):
        fill(tmp_path, tiny_path, name="tensorrt", targets=("sm86",))
    fake_gpu.install(monkeypatch, "tensorrt", "11.4", driver=0)
    with pytest.raises(ProviderError, match="on the GPU that will run them: There is no NVIDIA driver"):
        fill(tmp_path, tiny_path, name="tensorrt")


def test_wrong_version(folder: Path, tiny_path: Path, trt: fake_gpu.TensorRT) -> None:
    trt.__version__ = "1.8.0"
    text = refused(folder, tiny_path)
    assert "was built by tensorrt-rtx 1.7.1, and 1.8.0 is installed" in text
    assert "--precision mixed --target sm86" in text


def test_wrong_flavour(folder: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpu.install(monkeypatch, "tensorrt")
    assert "was built by tensorrt-rtx, and tensorrt is to run it" in refused(folder, tiny_path, name="tensorrt")


def test_wrong_target(folder: Path, tiny_path: Path, trt: fake_gpu.TensorRT) -> None:
    trt.cuda.capability = 9, 0
    text = refused(folder, tiny_path)
    assert "was built for sm86, sm89, sm120, and this GPU is sm90" in text


def test_wrong_graph(folder: Path, tiny_path: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_path, tmp_path / "other")
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["graphs"]["stage0"]["precisions"]["int8"]["sha256"] = "0" * 64
    (other / "manifest.json").write_bytes(sealed(manifest))
    assert "was built from another graph or other weights" in refused(folder, other)
    manifest["weights"]["sha256"] = "0" * 64
    (other / "manifest.json").write_bytes(sealed(manifest))
    assert "was built from another graph or other weights" in refused(folder, other, "decoder.fp16")
    for suffix in (".engine", ".json"):
        shutil.copy(folder / f"stage1.int8{suffix}", folder / f"stage0.int8{suffix}")
    assert "is of stage1 in int8" in refused(folder, tiny_path)
    with pytest.raises(BundleError, match=r"stage9\.int8\.onnx is not a graph of the bundle"):
        TensorRT("tensorrt-rtx", folder).load(tiny_path / "stage9.int8.onnx", ProviderOptions())


def test_other_options(folder: Path, tiny_path: Path) -> None:
    change(folder, options={"typed": "strongly", "tf32": False, "verbosity": "detailed"})
    assert "with other options" in refused(folder, tiny_path)


def test_damaged_plans_and_sidecars(folder: Path, tiny_path: Path) -> None:
    plan = folder / "stage0.int8.engine"
    whole = plan.read_bytes()
    plan.write_bytes(whole[:-7])
    assert f"has {len(whole) - 7} bytes and its sidecar says {len(whole)}, so it is truncated" in refused(
        folder, tiny_path
    )
    plan.write_bytes(whole[:-7] + b"garbage")
    assert "does not have the hash of its sidecar" in refused(folder, tiny_path)
    text = (folder / "stage0.int8.json").read_text()
    (folder / "stage0.int8.json").write_text(text.replace('"sm86"', '"sm90"'))
    assert "was changed after it was written" in refused(folder, tiny_path)
    for content in ("{", "[]", "{}", text.replace("uigc-engine", "other"), text.replace('"seconds"', '"hours"')):
        (folder / "stage0.int8.json").write_text(content)
        assert "is not the sidecar of an engine" in refused(folder, tiny_path)
    (folder / "stage0.int8.json").unlink()
    assert "is not the sidecar of an engine" in refused(folder, tiny_path)
    plan.unlink()
    assert "has no engine of stage0 in int8 (it has none)" in refused(folder, tiny_path)
    text = refused(folder, tiny_path, "decoder.fp32")
    assert "has no engine of decoder in fp32 (it has fp16)" in text


MACHINES = {
    "no driver": ({"driver": 0}, "There is no NVIDIA driver"),
    "old driver": ({"driver": 12080}, "The NVIDIA driver knows CUDA 12, and 13 is needed"),
    "no GPU": ({"devices": 0}, r"finds no GPU \(0 devices\)"),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_machines_without_a_gpu(machine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    has, sentence = MACHINES[machine]
    fake_gpu.install(monkeypatch, **has)
    with pytest.raises(ProviderError, match=f"^The provider 'tensorrt-rtx' cannot run here: .*{sentence}") as refusal:
        providers.find("tensorrt-rtx", tmp_path)
    assert refusal.value.exit_code == ExitCode.PROVIDER


def test_missing_packages(trt: fake_gpu.TensorRT, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib.util
    import sys

    def absent(name: str, package: str | None = None) -> None:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    monkeypatch.delitem(sys.modules, "cuda.bindings.runtime")
    with pytest.raises(ProviderError, match=r"cuda-bindings is not installed; install it with: pip install 'cuda-b"):
        providers.find("tensorrt-rtx", tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt_rtx")
    sentence = r"tensorrt_rtx is not installed; install it with: pip install 'uigc\[tensorrt-rtx\]'\."
    with pytest.raises(ProviderError, match=sentence):
        providers.find("tensorrt-rtx", tmp_path)
    with pytest.raises(DependencyError, match=sentence):
        backend.find("tensorrt-rtx")


def test_no_engines(trt: fake_gpu.TensorRT, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="given no engines; name their folder with --engines or UIGC_ENGINES"):
        providers.find("tensorrt-rtx")
    with pytest.raises(ProviderError, match="There are no engines in"):
        providers.find("tensorrt-rtx", tmp_path)
    with pytest.raises(UsageError, match="The provider 'cpu' runs no engines"):
        providers.find("cpu", folder)
    monkeypatch.setenv(FOLDER, str(folder))
    assert providers.find("tensorrt-rtx").precisions == ("int8",)


def test_what_is_built_is_what_was_asked_for(trt: fake_gpu.TensorRT, tiny_path: Path, tmp_path: Path) -> None:
    trt.builds = "float"
    with pytest.raises(
        EngineError,
        match="stage0 was asked for in int8, and TensorRT built its products in 100 % tf32, so it was not written",
    ):
        fill(tmp_path, tiny_path, graphs=("stage0",))
    with pytest.raises(EngineError, match="built its products in 100 % fp32"):
        fill(tmp_path, tiny_path, graphs=("decoder",))
    trt.builds, trt.refuses = None, "Myelin (FP32 GEMM is not supported.)\nmore of it"
    with pytest.raises(EngineError, match=r"could not build decoder in fp16: Myelin \(FP32 GEMM is not supported\.\);"):
        fill(tmp_path, tiny_path, graphs=("decoder",))
    assert not list(tmp_path.iterdir())


def test_orders_that_cannot_be_filled(trt: fake_gpu.TensorRT, tiny_path: Path, tmp_path: Path) -> None:
    orders: list[tuple[dict[str, object], type[UigcError], str]] = [
        ({"graphs": ("stage6",)}, UsageError, "no graph stage6; choose of: encoder, stage0"),
        ({"targets": ("sm90",)}, UsageError, "builds for no target sm90; it takes sm120, sm86, sm89"),
        ({"precision": "int8"}, BundleError, "has no encoder in 'int8'"),
    ]
    for order, error, text in orders:
        with pytest.raises(error, match=text):
            fill(tmp_path / "out", tiny_path, **order)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
