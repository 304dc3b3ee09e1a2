"""Real engines, built by TensorRT for RTX on a machine that need not have a GPU, from the default bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from uigc.bench.engines import order, row
from uigc.calibration import layers
from uigc.engines import backend, engine_set, sidecar
from uigc.engines.plan_census import share
from uigc.engines.precision import STAGES, TABLE
from uigc.engines.profile import Profile
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.manifest import sha256
from uigc.runtime.cli.main import main
from uigc.runtime.errors import EngineError, ExitCode

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not made for this system")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_every_engine_of_the_shipped_bundle(precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, flavour = Bundle.load(), backend.find("tensorrt-rtx")
    wanted = order(bundle, precision, (Profile.parse("kodak"),), ())
    made = [engine for engine, _ in engine_set.build_missing(bundle, flavour, wanted, tmp_path, lambda text: None)]
    with capsys.disabled():
        print(f"\n{engine_set.table(made)}")
    assert {f"stage{stage}" for stage in range(len(bundle.schedule))} <= set(wanted.graphs)
    assert [engine.source.graph for engine in made] == list(wanted.graphs)
    for engine in made:
        assert engine.targets == ("sm86", "sm89", "sm120")
        assert "unknown" not in engine.products
        built_from = bundle.graph(engine.source.graph, engine.source.precision)
        assert engine.source.graph_sha256 == sha256(built_from)  # the very graph that ONNX Runtime runs
        if engine.source.graph.startswith("stage"):
            # Products with weights are int8, those of two activations TF32, which rounds nothing: the proof says so.
            assert engine.options["tf32"]
            assert set(engine.products) == ({"tf32"} if TABLE[precision][STAGES] == "fp32" else {"int8", "tf32"})
        else:
            assert not engine.options["tf32"]
            assert share(engine.products, "int8" if precision == "int8" else "fp16") > 0.5
        assert sum(row(engine)[f"share_{kind}"] for kind in ("int8", "fp16", "tf32")) == pytest.approx(1, abs=0.1)
    assert len(list(tmp_path.glob("*.engine"))) == len(made)


def test_calibrated_graphs_are_int8(
    tiny_path: Path, sample: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Or all of the tiny networks would stay in half precision.
    monkeypatch.setattr(layers, "light", lambda shape, paints: False)
    calibrated, images = shutil.copytree(tiny_path, tmp_path / "bundle"), tmp_path / "pictures"
    images.mkdir()
    for number in range(3):
        Image.fromarray(sample[100 * number :][:100, :150]).save(images / f"{number}.png")
    settings = ("--psnr-only", "--observe", "2", "--measure", "1", "--threads", "1", "--quiet")
    assert main(["calibrate", str(calibrated), "--images", str(images), *settings]) == 0
    bundle, flavour = Bundle.load(calibrated), backend.find("tensorrt-rtx")
    wanted = engine_set.Order("int8", (Profile.parse("kodak"),), graphs=("encoder", "decoder"))
    made = [
        engine
        for engine, _ in engine_set.build_missing(bundle, flavour, wanted, tmp_path / "engines", lambda text: None)
    ]
    for engine in made:
        assert engine.source.precision == "int8"
        assert "unknown" not in engine.products
        assert share(engine.products, "int8") > 0.5


def test_profiles_of_several_sizes(tiny_path: Path, tmp_path: Path) -> None:
    bundle, flavour = Bundle.load(tiny_path), backend.find("tensorrt-rtx")
    profiles = Profile.parse("kodak", 2), Profile.parse("small", 8)
    wanted = engine_set.Order("mixed", profiles, ("sm89",), ("stage2", "decoder"))
    made = {
        engine.source.graph: engine
        for engine, _ in engine_set.build_missing(bundle, flavour, wanted, tmp_path, lambda text: None)
    }
    assert [profile["name"] for profile in made["decoder"].profiles] == ["kodak", "small"]
    # Of a network as small as this one, a product may be fused out of the plan's sight: it is counted as unknown.
    assert made["stage2"].products.get("unknown", 0) <= 1
    assert share(made["stage2"].products, "int8") > 0.5


def test_what_cannot_be_built(tiny_path: Path, tmp_path: Path) -> None:
    bundle, flavour = Bundle.load(tiny_path), backend.find("tensorrt-rtx")
    turing = engine_set.Order("int8", (Profile.parse("kodak"),), ("sm75",), ("stage0",))
    with pytest.raises(EngineError, match=r"could not build stage0 in int8: .*Turing \(SM75\): FP32 GEMM is not supp"):
        list(engine_set.build_missing(bundle, flavour, turing, tmp_path, lambda text: None))
    assert not list(tmp_path.iterdir())


def test_a_real_plan_is_refused_where_there_is_no_gpu(tiny_path: Path, tmp_path: Path) -> None:
    bundle, flavour = Bundle.load(tiny_path), backend.find("tensorrt-rtx")
    (engine,) = engine_set.build_missing(
        bundle, flavour, engine_set.Order("fp16", (Profile.parse("96x64"),), graphs=("decoder",)), tmp_path, print
    )
    plan = sidecar.plan_path(tmp_path, "decoder", "fp16").read_bytes()
    runtime = flavour.trt.Runtime(flavour.logger)
    if runtime.deserialize_cuda_engine(plan) is not None:
        pytest.skip("there is a GPU, and it takes the plan")
    with pytest.raises(EngineError, match=r"tensorrt-rtx [\d.]+ could not load the engine: .*CUDA"):
        flavour.checked(None, "load the engine")
    assert engine[0].plan_bytes == len(plan)


def test_the_command(uigc: Run, tiny_path: Path, tmp_path: Path) -> None:
    build = ("build", tiny_path, "--backend", "tensorrt-rtx", "-o", "engines", "--profile", "96x64")
    done = uigc(*build, "--graph", "stage0", "--graph", "decoder", "--target", "sm89,SM120")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.decode().splitlines()[1:]] == [
        ["stage0", "int8"],
        ["decoder", "fp16"],
    ]
    assert b"2/2 decoder fp16: about" in done.stderr
    assert sidecar.Sidecar.read(tmp_path / "engines" / "stage0.int8.engine").targets == ("sm89", "sm120")
    for code, arguments in (
        (ExitCode.USAGE, ("--target", "sm12")),
        (ExitCode.USAGE, ("--profile", "vast")),
        (ExitCode.BUNDLE, ("--precision", "int8")),
    ):
        failed = uigc(*build, *arguments)
        assert failed.returncode == code, failed.stderr
        assert failed.stderr.count(b"\n") == 1
    assert uigc("build", tiny_path, "-o", "engines").returncode == ExitCode.USAGE


def test_the_provider_says_what_this_machine_lacks(uigc: Run, tiny_path: Path, tmp_path: Path) -> None:
    (tmp_path / "one.uigc").write_bytes(b"")
    options = ("--bundle", tiny_path, "--provider", "tensorrt-rtx")
    done = uigc("decompress", "one.uigc", "one.png", *options)
    assert done.returncode == ExitCode.PROVIDER
    assert b"The provider 'tensorrt-rtx' cannot run here: " in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert b"runs no engines" in uigc("decompress", "one.uigc", "one.png", "--engines", tmp_path).stderr
