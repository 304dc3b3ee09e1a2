"""Images in bytes at both ends of the graphs, and earlier bundles, whose images are planes of floats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tests.support.tiny import tiny_modules
from uigc.export.byte_images import PLANES
from uigc.export.modules.checkpoint import load_tokenizer
from uigc.export.modules.interface import ImageToTokens
from uigc.export.trace import TraceError, compare, specs
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.seal import sealed
from uigc.runtime.cli.main import main
from uigc.runtime.codec import Codec
from uigc.runtime.errors import BundleError, ExitCode
from uigc.runtime.networks.byte_images import in_bytes
from uigc.runtime.providers import Graph

RNG = np.random.default_rng(3)


def test_a_bundle_has_one_kind_of_images(tiny: Codec, earlier_path: Path) -> None:
    assert (tiny.bundle.manifest["version"], tiny.bundle.has_byte_images) == (4, True)
    assert not Bundle.load(earlier_path).has_byte_images
    for folder, image in ((tiny.bundle.path, "uint8"), (earlier_path, "float32")):
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["graphs"]["encoder"]["inputs"][0]["dtype"] == image
        assert manifest["graphs"]["decoder"]["outputs"][0]["dtype"] == image


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_earlier_bundles_give_the_same_bytes(tiny: Codec, earlier_path: Path, precision: str) -> None:
    one, other = (Codec(path, threads=1, pixel_precision=precision) for path in (tiny.bundle.path, earlier_path))
    for height, width in ((1, 1), (64, 96), (150, 231)):
        pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
        assert np.array_equal(one.tokenize(pixels), other.tokenize(pixels))
        for mask in ("entire", "edge_more:0.3"):
            data = one.compress(pixels, mask)
            assert other.compress(pixels, mask) == data
            assert np.array_equal(one.decompress(data), other.decompress(data))
    files = [one.compress(RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(3)]
    for left, right in zip(one.decompress_many(files, batch=3), other.decompress_many(files, batch=3), strict=True):
        assert np.array_equal(left, right)
        assert left.base is None  # an image of a batch keeps no other alive


class Fixed(Graph):
    """Returns the same planes whatever it is given, and keeps that."""

    def __init__(self, planes: np.ndarray) -> None:
        self.planes, self.given = planes, np.empty(0)

    def __call__(self, value: np.ndarray) -> np.ndarray:
        self.given = value
        return self.planes


def end_of_the_decoder(path: Path) -> bytes:
    """The nodes of a decoder's graph from its planes on, as a graph."""
    whole = onnx.load(path, load_external_data=False)
    start = next(index for index, node in enumerate(whole.graph.node) if PLANES in node.input)
    planes = onnx.helper.make_tensor_value_info(PLANES, onnx.TensorProto.FLOAT, ["batch", 3, "height", "width"])
    constants = [tensor for tensor in whole.graph.initializer if tensor.name.startswith("image")]
    graph = onnx.helper.make_graph(whole.graph.node[start:], "end", [planes], whole.graph.output, constants)
    model = onnx.helper.make_model(graph, opset_imports=whole.opset_import, ir_version=whole.ir_version)
    found: bytes = model.SerializeToString()
    return found


def test_graphs_round_as_the_host_does(tiny_path: Path) -> None:
    """Every level, both sides of every boundary between two, and the boundaries themselves, where halves go to even."""
    halves = (np.arange(256, dtype=np.float32) + np.float32(0.5)) / np.float32(255)
    values = [np.arange(256, dtype=np.float32) / 255, halves, np.nextafter(halves, 0), np.nextafter(halves, 1)]
    planes = np.clip(np.concatenate([*values, [0, 1] * 128]), 0, 1).astype(np.float32).reshape(5, 16, 16)
    planes = np.stack([planes, planes[::-1], planes * np.float32(0.999)], axis=1)
    (found,) = onnxruntime.InferenceSession(end_of_the_decoder(tiny_path / "decoder.fp32.onnx")).run(
        None, {PLANES: planes}
    )
    exact = np.rint(planes.astype(np.float64) * 255).transpose(0, 2, 3, 1)
    assert np.array_equal(found, in_bytes("decoder", Fixed(planes), False)(np.zeros((5, 1, 1), np.int32)))
    assert (found != exact).sum() <= 512  # where the product in float32 comes to lie on the boundary itself


def test_earlier_graphs_are_given_planes() -> None:
    graph = Fixed(np.zeros((1, 1, 1), np.int32))
    image = RNG.integers(0, 256, (2, 16, 32, 3), dtype=np.uint8)
    in_bytes("encoder", graph, False)(image)
    assert (graph.given.dtype, graph.given.shape) == (np.float32, (2, 3, 16, 32))
    assert graph.given.flags["C_CONTIGUOUS"]
    assert np.array_equal(graph.given, (image / 255).astype(np.float32).transpose(0, 3, 1, 2))
    assert in_bytes("stage0", graph, False) is in_bytes("encoder", graph, True) is graph


@pytest.mark.parametrize(
    ("version", "text"), [(5, "reads 2 to 4"), (True, "reads 2 to 4"), (3, "logits int32"), (2, "image float32")]
)
def test_versions_and_images_that_do_not_fit(tiny_path: Path, tmp_path: Path, version: int, text: str) -> None:
    for file in tiny_path.iterdir():
        (tmp_path / file.name).symlink_to(file)
    manifest = json.loads((tiny_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "manifest.json").write_bytes(sealed({**manifest, "version": version}))
    with pytest.raises(BundleError, match=text):
        Bundle.load(tmp_path)


def test_earlier_bundles_are_exported_again_before_they_are_calibrated(
    earlier_path: Path, tiny: Codec, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    out = tmp_path / "again"
    command = ["calibrate", str(earlier_path), "--images", str(tmp_path), "--psnr-only", "--quiet"]
    assert main(command) == ExitCode.INPUT
    assert "export it again" in capfd.readouterr().err
    assert main(["export", str(earlier_path), "-o", str(out), "--quiet"]) == 0
    again = Bundle.load(out)
    assert (again.has_byte_images, again.prior_id) == (True, tiny.bundle.prior_id)


def test_a_graph_that_rounds_in_another_way_is_refused(tiny_path: Path, tmp_path: Path) -> None:
    spec = specs(load_tokenizer(tiny_path), tiny_modules(0)[1].prior.freeze())[-1]
    model = onnx.load(tiny_path / "decoder.fp32.onnx")
    rounding = next(node for node in model.graph.node if node.output[0] == "image.rounded")
    rounding.op_type = "Floor"
    onnx.save(model, tmp_path / "floor.onnx")
    with pytest.raises(TraceError, match="not that of its planes"):
        compare(spec, str(tmp_path / "floor.onnx"), [spec.example])
    compare(spec, str(tiny_path / "decoder.fp32.onnx"), [spec.example])


def test_tokens_are_those_of_the_module(tiny: Codec, tiny_path: Path) -> None:
    pixels = RNG.integers(0, 256, (48, 80, 3), dtype=np.uint8)
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = ImageToTokens(load_tokenizer(tiny_path))(planes)[0].numpy()
    assert np.array_equal(tiny.tokenize(pixels), expected)
