"""A bundle that only decodes: small, exact, loaded by the package, which then compresses nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.conftest import Run
from tests.support.paths import ROOT
from uigc.export.decoder_only import write_decoder
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.bundle import default_path
from uigc.runtime.bundle.manifest import WEIGHTS
from uigc.runtime.bundle.seal import sealed
from uigc.runtime.cli.main import main
from uigc.runtime.codec import Codec
from uigc.runtime.errors import BundleError

GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(scope="module")
def decoder_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("decoder") / "bundle"
    assert main(["export", str(default_path()), "--decoder-only", "-o", str(out), "--quiet"]) == 0
    return out


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def test_it_is_half_as_large(decoder_bundle: Path) -> None:
    assert size(decoder_bundle) < size(default_path()) / 2
    bundle = Bundle.load(decoder_bundle)
    assert bundle.prior_id == Bundle.load().prior_id
    assert (bundle.pixel_graphs, list(bundle.halos)) == (["decoder"], ["decoder"])
    assert {name: bundle.precisions(name) for name in ("stage0", "decoder")} == {
        "stage0": ["int8"],
        "decoder": ["int8", "fp32"],
    }


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_pixels_are_those_of_the_bundle_it_was_made_from(decoder_bundle: Path, precision: str) -> None:
    file = GOLDEN / "coffee-edge.uigc"
    with Codec(decoder_bundle, threads=1, pixel_precision=precision) as codec:
        image = codec.decompress(file)
    with Codec(threads=1, pixel_precision=precision) as whole:
        assert np.array_equal(image, whole.decompress(file))


def test_it_decodes_the_golden_files(decoder_bundle: Path) -> None:
    grids = json.loads((GOLDEN / "coffee.json").read_text())["grids"]
    with Codec(decoder_bundle, threads=1) as codec:
        for mask, grid in grids.items():
            assert codec.decode_tokens((GOLDEN / f"coffee-{mask}.uigc").read_bytes()).tolist() == grid


def test_its_constants_are_those_of_the_bundle(decoder_bundle: Path) -> None:
    """What the golden files do not reach: everything that is stored in another form."""
    from onnx.reference import ReferenceEvaluator

    whole, small = Bundle.load(), Bundle.load(decoder_bundle)
    for stage in range(len(whole.schedule)):
        model = onnx.load(small.graph(f"stage{stage}", "int8"))
        original = {tensor.name: tensor for tensor in onnx.load(whole.graph(f"stage{stage}", "int8")).graph.initializer}
        restored = [node for node in model.graph.node if node.output[0] in original]
        assert restored
        made = model.graph.initializer
        stored = {tensor.name for tensor in made}
        steps = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in stored]
        graph = onnx.helper.make_graph(
            [*steps, *(node for node in restored if node not in steps)],
            "constants",
            [],
            [onnx.helper.make_tensor_value_info(n.output[0], original[n.output[0]].data_type, None) for n in restored],
            made,
        )
        values = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=model.opset_import)).run(None, {})
        for node, value in zip(restored, values, strict=True):
            expected = onnx.numpy_helper.to_array(original[node.output[0]])
            assert value.dtype == expected.dtype
            assert np.array_equal(value, expected), node.output[0]


def test_it_compresses_nothing(decoder_bundle: Path, sample: np.ndarray) -> None:
    with Codec(decoder_bundle, threads=1) as codec:
        for attempt in (codec.compress, codec.tokenize):
            with pytest.raises(BundleError, match="only decodes: it has no encoder; use the one that it was made"):
                attempt(sample)
        outcomes = list(codec.compress_many([sample[:32, :32]]))
        assert [type(outcome) for outcome in outcomes] == [BundleError]


def test_the_command(decoder_bundle: Path, uigc: Run, tmp_path: Path) -> None:
    file = GOLDEN / "coffee-edge.uigc"
    done = uigc("decompress", file, "image.png", "--bundle", decoder_bundle)
    assert (done.returncode, (tmp_path / "image.png").exists()) == (0, True)
    done = uigc("compress", tmp_path / "image.png", "again.uigc", "--bundle", decoder_bundle)
    assert (done.returncode, done.stderr.count(b"\n")) == (10, 1)
    assert b"it has no encoder" in done.stderr
    done = uigc("doctor", "--bundle", decoder_bundle)
    assert done.returncode == 0, done.stderr + done.stdout


def test_outputs_are_complete_or_absent(decoder_bundle: Path, tiny_path: Path, tmp_path: Path) -> None:
    assert main(["export", str(tiny_path), "--decoder-only", "-o", str(decoder_bundle), "--quiet"]) == 4
    out = tmp_path / "out"
    shutil.copytree(decoder_bundle, out)
    assert main(["export", str(tiny_path), "--decoder-only", "-o", str(out), "--quiet", "--force"]) == 0
    assert Bundle.load(out).prior_id == Bundle.load(tiny_path).prior_id
    (tmp_path / "mine").mkdir()
    assert main(["export", str(tiny_path), "--decoder-only", "-o", str(tmp_path / "mine"), "--force"]) == 4
    with pytest.raises(BundleError, match="has no stage0 in 'int8'"):
        write_decoder(without_int8(tiny_path, tmp_path / "fp32"), tmp_path / "none", False, lambda text: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fp32", "mine", "out"]


def without_int8(path: Path, out: Path) -> Bundle:
    shutil.copytree(path, out)
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["graphs"]["stage0"]["precisions"]["int8"]
    (out / "manifest.json").write_bytes(sealed(manifest))
    return Bundle.load(out)


def test_a_damaged_one_is_refused(decoder_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(decoder_bundle, out)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["graphs"]["stage1"]["precisions"] = {}
    (out / "manifest.json").write_bytes(sealed(manifest))
    with pytest.raises(BundleError, match="'stage1' is in no precision: one is needed"):
        Bundle.load(out)
    (out / "manifest.json").write_bytes((decoder_bundle / "manifest.json").read_bytes())
    (out / WEIGHTS).write_bytes((out / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(BundleError, match="bytes and the manifest states"):
        Bundle.load(out)
