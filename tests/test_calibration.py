"""Calibration of the tiny bundle: ranges, the graphs' form, the budget, and a bundle that stays whole."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from PIL import Image

from uigc.calibration import photographs
from uigc.calibration.quality import Budget, Quality
from uigc.calibration.ranges import LEVELS, METHODS, Observed
from uigc.calibration.search import Search
from uigc.calibration.store import NETWORKS, Store, integer_convolutions
from uigc.runtime import Bundle, Codec, files
from uigc.runtime.cli import main
from uigc.runtime.errors import BudgetError, BundleError, ExitCode, InputError, OutputError
from uigc.runtime.mask import MODES
from uigc.runtime.pictures import is_held_out

SETTINGS = ("--psnr-only", "--observe", "2", "--measure", "1", "--threads", "1", "--quiet")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, sample: np.ndarray) -> Path:
    """Three crops of the sample, whose names decide which are measured."""
    folder = tmp_path_factory.mktemp("images")
    for number, top in enumerate((0, 100, 200)):
        Image.fromarray(sample[top : top + 100, :150]).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def calibrated(tiny_path: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibrated") / "bundle"
    shutil.copytree(tiny_path, path)
    assert main(["calibrate", str(path), "--images", str(images), *SETTINGS]) == 0
    return path


def test_the_bundle_is_whole_and_runs(calibrated: Path, tiny: Codec, sample: np.ndarray) -> None:
    bundle = Bundle.load(calibrated)
    assert bundle.prior_id == tiny.bundle.prior_id
    assert main(["doctor", "--bundle", str(calibrated)]) == 0
    codec = Codec(bundle, threads=1, pixel_precision="int8")
    image = np.ascontiguousarray(sample[:70, :90])
    grid = tiny.tokenize(image)
    data = tiny.encode_tokens(grid, image, MODES["edge"]).data
    assert codec.encode_tokens(grid, image, MODES["edge"]).data == data
    ours, exact = codec.decompress(data).astype(int), tiny.decompress(data).astype(int)
    assert 0 < np.abs(ours - exact).mean() < 2
    assert (codec.tokenize(image) == grid).mean() > 0.8


@pytest.mark.parametrize("name", NETWORKS)
def test_the_form_is_what_every_provider_takes(calibrated: Path, name: str) -> None:
    """Symmetric, zero points written out, float32 scales, weights by channel, no bias in the product."""
    bundle = Bundle.load(calibrated)
    graph = onnx.load(bundle.graph(name, "int8")).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    quantizers = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for node in quantizers:
        scale, zero = (constants[each] for each in node.input[1:])
        assert (scale.dtype, zero.dtype, scale.shape) == (np.float32, np.int8, zero.shape)
        assert (scale > 0).all()
        assert not zero.any()
    products = [n for n in graph.node if n.op_type == "Conv" and producers[n.input[0]].op_type == "DequantizeLinear"]
    assert len(quantizers) == 6 * len(products)
    assert all(len(node.input) == 2 for node in products)
    for node in products:
        scales = constants[producers[node.input[1]].input[1]]
        assert scales.shape == (len(constants[name_of_weight(producers, node)]),)
    layers = json.loads((calibrated / "calibration.json").read_text())["graphs"][name]["layers"]
    assert len(products) == sum(layer["precision"] == "int8" for layer in layers) == 10
    assert integer_convolutions(bundle.graph(name, "int8")) == len(products)  # with default options


def name_of_weight(producers: dict[str, onnx.NodeProto], product: onnx.NodeProto) -> str:
    """The shared half-precision weights behind DequantizeLinear, QuantizeLinear and Cast."""
    name: str = product.input[1]
    while name in producers:
        name = producers[name].input[0]
    return name


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_shared_and_the_rest_is_half(calibrated: Path, name: str) -> None:
    bundle = Bundle.load(calibrated)
    quantized, half = (
        onnx.load(bundle.graph(name, precision), load_external_data=False) for precision in ("int8", "fp16")
    )

    def offsets(model: onnx.ModelProto) -> set[str]:
        external = [tensor for tensor in model.graph.initializer if tensor.external_data]
        assert all(tensor.data_type == TensorProto.FLOAT16 for tensor in external)
        return {entry.value for tensor in external for entry in tensor.external_data if entry.key == "offset"}

    assert offsets(quantized) == offsets(half)
    assert bundle.graph(name, "int8").stat().st_size < 60_000


def test_the_data_says_what_was_done(calibrated: Path, images: Path) -> None:
    bundle = Bundle.load(calibrated)
    data = json.loads((calibrated / "calibration.json").read_text())
    pictures = {each["name"]: each["sha256"] for side in data["pictures"].values() for each in side}
    assert set(pictures) == {path.name for path in images.iterdir()}
    assert (len(data["pictures"]["observed"]), len(data["pictures"]["measured"])) == (2, 1)
    for name in NETWORKS:
        part = data["graphs"][name]
        assert part["graph"] == bundle.manifest["graphs"][name]["precisions"]["int8"]["sha256"]
        assert set(part["methods"]) == set(METHODS)
        assert part["fp32"]["psnr"] - part["int8"]["psnr"] <= data["budget"]["psnr"]
        for tensor in (tensor for layer in part["layers"] for tensor in layer["tensors"]):
            assert tensor["range"] == tensor["ranges"][tensor["method"]]
            assert tensor["scale"] == float(np.float32(tensor["range"] / LEVELS))
    report = (calibrated / "calibration.md").read_text()
    assert report.count("| int8 |\n") == 20


def test_again_only_by_force_and_with_the_same_result(
    calibrated: Path, images: Path, capfd: pytest.CaptureFixture
) -> None:
    before = {path.name: path.read_bytes() for path in calibrated.iterdir()}
    command = ["calibrate", str(calibrated), "--images", str(images), *SETTINGS]
    assert main(command) == ExitCode.OUTPUT
    assert "--force" in capfd.readouterr().err
    assert main([*command, "--force"]) == 0
    assert {path.name: path.read_bytes() for path in calibrated.iterdir()} == before


def test_a_write_that_fails_leaves_the_bundle_whole(
    calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bundle"
    shutil.copytree(calibrated, path)
    bundle, model = Bundle.load(path), onnx.load(calibrated / "decoder.int8.onnx", load_external_data=False)
    model.producer_name = "another"
    store = Store(bundle)
    write = files.write

    def failing(name: str | Path, data: bytes, force: bool) -> None:
        if Path(name).name == "calibration.json":
            raise OutputError("The disk is full; make room.")
        write(name, data, force)

    monkeypatch.setattr(files, "write", failing)
    store.add_graph("decoder", model)
    with pytest.raises(OutputError):
        store.finish({}, "")
    assert "int8" not in Bundle.load(path).precisions("decoder")


def test_a_changed_calibration_is_refused(calibrated: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    shutil.copytree(calibrated, path)
    (path / "calibration.json").write_text((path / "calibration.json").read_text().replace("0.3", "0.4"))
    with pytest.raises(BundleError, match=r"calibration\.json does not have the hash"):
        Bundle.load(path)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), ExitCode.USAGE),  # LPIPS without its networks
        (("--networks", "missing"), ExitCode.INPUT),
        (("--psnr-only", "--networks", "missing"), ExitCode.USAGE),
        (("--psnr-only", "--psnr-loss", "0"), ExitCode.USAGE),
        (("--psnr-only", "--images", "nowhere"), ExitCode.INPUT),
    ],
)
def test_refusals(
    tiny_path: Path, images: Path, arguments: tuple[str, ...], code: int, capfd: pytest.CaptureFixture
) -> None:
    assert main(["calibrate", str(tiny_path), "--images", str(images), *arguments]) == code
    assert len(capfd.readouterr().err.splitlines()) == 1


def searched(costs: dict[str, float], loss: float) -> list[str]:
    """The layers that a search leaves, with layers whose costs in dB add up."""
    network = SimpleNamespace(
        name="decoder",
        layers=[SimpleNamespace(name=name, weight_scales=np.ones(1, np.float32)) for name in costs],
        full=lambda value: value,
        quantized=dict,
    )
    observed = Observed()
    observed.add(np.ones(4, np.float32))
    judge = SimpleNamespace(
        fix=lambda pictures: Quality(20.0, None),
        judge=lambda scales: Quality(20 - sum(costs[name] for name in scales), None, 40.0),
    )
    found = Search(
        network,  # type: ignore[arg-type]
        dict.fromkeys(costs, (observed, observed)),
        lambda call: call,  # type: ignore[arg-type, return-value]
        judge,  # type: ignore[arg-type]
        lambda *_: None,
    ).run(Budget(loss, None))
    assert set(found.scales) == set(costs) - set(found.left)
    assert found.quality.psnr >= 20 - loss
    return found.left


def test_the_costliest_layers_are_left_and_no_more() -> None:
    costs = {"a": 0.01, "b": 0.5, "c": 0.1, "d": 0.15, "e": -0.02}
    assert searched(costs, 1.0) == []
    assert searched(costs, 0.3) == ["b"]
    assert searched(costs, 0.2) == ["b", "d"]
    with pytest.raises(BudgetError, match="at a loss of at most 1e-09 dB"):
        searched({"a": 0.01, "b": 0.5}, 1e-9)


def test_both_figures_count_in_a_budget() -> None:
    exact = Quality(20.0, 0.3)
    assert Budget(0.3, 0.005).share(exact, Quality(19.85, 0.301)) == pytest.approx(0.5)
    assert Budget(0.3, 0.005).share(exact, Quality(19.97, 0.31)) == pytest.approx(2)
    assert Budget(0.3, None).share(exact, Quality(19.4, None)) == pytest.approx(2)


def test_ranges_are_those_of_all_values() -> None:
    rng = np.random.default_rng(5)
    parts = [rng.normal(0, scale, 50_000).astype(np.float32) for scale in (0.01, 1, 0.3)]
    parts[2][7] = -40  # one outlier
    observed = Observed()
    for part in parts:
        observed.add(part.reshape(10, -1))
    values = np.concatenate(parts)
    assert observed.counts.sum() == len(values)
    assert (observed.least, observed.most) == (values.min(), values.max())
    ranges = observed.ranges()
    assert ranges["min-max"] == 40
    assert ranges["percentile"] == pytest.approx(np.percentile(np.abs(values), 99.99), abs=64 / 4096)

    def error(reach: float) -> float:
        scale = reach / LEVELS
        return float(np.mean((values - np.clip(np.rint(values / scale), -LEVELS, LEVELS) * scale) ** 2))

    tried = [error(reach) for reach in np.geomspace(2, 40, 200)]
    assert error(ranges["mse"]) < 1.05 * min(tried) < error(40)


def test_a_tensor_of_zeros_has_a_range() -> None:
    observed = Observed()
    observed.add(np.zeros((2, 3), np.float32))
    assert observed.ranges() == dict.fromkeys(METHODS, 1.0)


def test_pictures_are_measured_or_observed_never_both(tmp_path: Path) -> None:
    held_out = [name for name in (f"{number}.png" for number in range(400)) if is_held_out(name)]
    others = [f"{number}.png" for number in range(12) if not is_held_out(f"{number}.png")]
    for number, name in enumerate([*held_out[:2], *others]):
        Image.new("RGB", (80, 100), (number, 2, 3)).save(tmp_path / name)
    Image.new("RGB", (30, 100)).save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    said: list[str] = []
    observed, measured = photographs.choose(tmp_path, 30, 3, said.append)
    assert {photograph.name for photograph in measured} > set(held_out[:2])
    assert not {each.sha256 for each in observed} & {each.sha256 for each in measured}
    assert len(observed) + len(measured) == 2 + len(others)
    assert len(said) == 2
    assert observed[0].pixels.shape == (1, 3, 96, 80)
    tar = tmp_path / "all.tar"
    with tarfile.open(tar, "w") as archive:
        for path in tmp_path.glob("*.png"):
            archive.add(path, path.name)
    again = photographs.choose(tar, 30, 3, said.append)
    assert [[each.sha256 for each in side] for side in again] == [
        [each.sha256 for each in side] for side in (observed, measured)
    ]


def test_one_picture_is_too_few(tmp_path: Path) -> None:
    Image.new("RGB", (80, 100)).save(tmp_path / "one.png")
    with pytest.raises(InputError, match="calibration needs two"):
        photographs.choose(tmp_path, 2, 1, print)


@pytest.mark.parametrize("name", NETWORKS)
def test_tensorrt_parses_the_graphs(calibrated: Path, name: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(calibrated / f"{name}.int8.onnx")), parser.get_error(0)
