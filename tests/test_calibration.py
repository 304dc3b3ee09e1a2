"""Calibration of the tiny bundle: ranges, the graphs' form, the budget, and a bundle that stays whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from PIL import Image

from uigc.bench import pixels
from uigc.calibration import layers
from uigc.calibration.ranges import LEVELS, METHODS
from uigc.calibration.store import NETWORKS, Store, integer_convolutions
from uigc.runtime.bundle import Bundle
from uigc.runtime.cli.main import main
from uigc.runtime.codec import Codec
from uigc.runtime.errors import BundleError, ExitCode, OutputError
from uigc.runtime.format.mask import MODES
from uigc.runtime.io import files

LIGHT = layers.light
SETTINGS = ("--psnr-only", "--observe", "2", "--measure", "1", "--threads", "1", "--quiet")


@pytest.fixture(scope="module", autouse=True)
def all_layers() -> Iterator[None]:
    """All convolutions of the tiny networks are light; quantize them nevertheless."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "light", lambda shape, paints: False)
        yield


def thin(shape: tuple[int, ...], paints: bool) -> bool:
    """The convolutions from 8 channels to 8."""
    return max(shape[:2]) < 16


def test_a_network_of_light_layers_is_refused_and_some_are_listed(
    tiny_path: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    path = tmp_path / "bundle"
    shutil.copytree(tiny_path, path)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    command = ["calibrate", str(path), "--images", str(images), *SETTINGS, "--method", "min-max", "--psnr-loss", "9"]
    monkeypatch.setattr(layers, "light", LIGHT)
    assert main(command) == ExitCode.BUDGET
    assert "have fewer than 64 channels on both sides" in capfd.readouterr().err
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    monkeypatch.setattr(layers, "light", thin)
    assert main(command) == 0
    found = json.loads((path / "calibration.json").read_text())["graphs"]["encoder"]["layers"]
    light = [layer for layer in found if layer["alone"] is None]
    assert (len(light), len(found)) == (5, 10)
    assert all(layer["precision"] == "fp16" and layer["tensors"] == [] for layer in light)
    assert (path / "calibration.md").read_text().count("| fp16, light |\n") >= 5
    assert "5 of 10 layers in int8" in (path / "calibration.md").read_text()


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
    found = json.loads((calibrated / "calibration.json").read_text())["graphs"][name]["layers"]
    count = {"encoder": 10, "decoder": 13}[name]
    assert len(products) == sum(layer["precision"] == "int8" for layer in found) == count
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
        wide = [list(tensor.dims) for tensor in external if tensor.data_type != TensorProto.FLOAT16]
        assert [np.prod(dims) for dims in wide] in ([], [bundle.codewords.size])  # the codebook, and no weights
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
    assert report.count("| int8 |\n") == 23


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


def loss(bundle: Bundle, precision: str, pixels: np.ndarray) -> tuple[float, float]:
    """dB of PSNR that a decoder loses to float32 on the tokens of an image, and its mean difference in 255ths."""
    full, other = (Codec(bundle, pixel_precision=each) for each in ("fp32", precision))
    grid = full.tokenize(pixels)
    exact, changed, original = (each.astype(float) for each in (full.detokenize(grid), other.detokenize(grid), pixels))
    errors = [np.square(picture - original).mean() for picture in (exact, changed)]
    return 10 * float(np.log10(errors[1] / errors[0])), float(np.abs(changed - exact).mean())


def test_half_precision_of_the_bundle_that_ships(sample: np.ndarray) -> None:
    lost, difference = loss(Bundle.load(), "fp16", np.ascontiguousarray(sample[:256, :384]))
    assert difference <= 1
    assert lost < 0.01


def test_int8_of_the_bundle_that_ships(sample: np.ndarray) -> None:
    """On an image that was not calibrated on, it loses no more than its calibration allowed in the mean."""
    bundle = Bundle.load()
    if "int8" not in bundle.precisions("decoder"):
        pytest.skip("the default bundle is not calibrated")
    budget = json.loads((bundle.path / "calibration.json").read_text())["budget"]
    lost, difference = loss(bundle, "int8", np.ascontiguousarray(sample[:256, :384]))
    assert 0 < difference < 4
    assert lost <= budget["psnr"]


@pytest.mark.parametrize("name", NETWORKS)
def test_tensorrt_parses_the_graphs(calibrated: Path, name: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(calibrated / f"{name}.int8.onnx")), parser.get_error(0)


def test_the_benchmark_of_precisions(
    calibrated: Path, images: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    out = tmp_path / "pixels.json"
    options = ["--bundle", str(calibrated), "--threads", "1", "--repeats", "2", "--json", str(out)]
    pixels.main([str(images), *options])
    rows = [line for line in capfd.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[1:]] == ["| fp32", "| fp16", "| int8"]
    found = json.loads(out.read_text())["precisions"]
    assert found["fp32"]["quality"]["same_tokens"] == 1
    assert found["fp32"]["quality"]["files"] == found["fp32"]["quality"]["decoder"]
    assert found["fp32"]["times"]["decoder"]["of_fp32"] == 1
    codec = Codec(calibrated, threads=1, pixel_precision="int8")
    picture = np.array(Image.open(images / "1.png"))
    record = found["int8"]["quality"]["files"]["pictures"][1]
    data = codec.compress(picture)
    error = np.square(codec.decompress(data).astype(float) - picture).mean()
    assert record["bytes"] == len(data)
    assert record["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)
