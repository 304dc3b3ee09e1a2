"""The bundle: what it holds, and every fault named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.half_operands import with_half_stages
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.manifest import CODER_TABLE
from uigc.runtime.bundle.seal import resealed, sealed
from uigc.runtime.codec import Codec
from uigc.runtime.errors import BundleError, ProviderError


@pytest.fixture
def copied(tiny_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_path, tmp_path / "bundle"))


def change(path: Path, **entries: object) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    manifest.update(entries)
    (path / "manifest.json").write_bytes(sealed(manifest))


def test_a_whole_bundle(tiny_path: Path) -> None:
    bundle = Bundle.load(tiny_path)
    assert (bundle.codebook, bundle.window, bundle.unknown, bundle.pad, bundle.patch) == (16, 8, 16, 17, 16)
    assert bundle.table(CODER_TABLE)[0] == 2**19 - 1
    assert bundle.precisions("stage0") == ["fp32", "int8"]
    assert bundle.precisions("encoder") == bundle.precisions("decoder") == ["fp32", "fp16"]
    with pytest.raises(BundleError, match="no decoder in 'int8'; choose one of: fp32"):
        bundle.graph("decoder", "int8")
    for name in ("encoder", "stage0", "stage5", "decoder"):
        entry = bundle.manifest["graphs"][name]
        assert entry["inputs"][0]["dtype"] == ("uint8" if name == "encoder" else "int32")
        assert entry["outputs"][0]["shape"]


def test_stages_in_half_precision_of_earlier_exporters(tiny: Codec, tiny_path: Path, tmp_path: Path) -> None:
    path = with_half_stages(tiny_path, tmp_path / "earlier")
    bundle = Bundle.load(path)
    assert set(bundle.precisions("stage0")) == {"fp32", "fp16", "int8"}
    assert bundle.prior_id == tiny.bundle.prior_id
    data = tiny.compress(np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8))
    for asked, taken in ((None, "int8"), ("fp16", "fp16")):
        codec = Codec(bundle, precision=asked, threads=1)
        assert codec.precision == taken
        assert np.array_equal(codec.decode_tokens(data), tiny.decode_tokens(data))
    with pytest.raises(BundleError, match="no stage0 in 'fp16'; choose one of: fp32, int8"):
        Codec(tiny_path, precision="fp16")


def test_all_faults_are_reported_at_once(copied: Path) -> None:
    (copied / "stage2.fp32.onnx").unlink()
    (copied / "decoder.fp32.onnx").write_bytes(b"short")
    data = bytearray((copied / "stage4.int8.onnx").read_bytes())
    data[100] ^= 1
    (copied / "stage4.int8.onnx").write_bytes(data)
    with pytest.raises(BundleError) as raised:
        Bundle.load(copied)
    message = str(raised.value)
    for text in ("stage2.fp32.onnx is missing", "decoder.fp32.onnx has 5 bytes", "stage4.int8.onnx does not have the"):
        assert text in message


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ({"version": 99}, "version 99"),
        ({"format": "other"}, "does not describe"),
        ({"graphs": {}}, "'stage0' is not in the manifest"),
        ({"graphs": {"encoder": None}}, "'encoder' is not in the manifest"),
        ({"schedule": {"tile": 4, "stages": []}}, "schedule is invalid"),
        ({"schedule": {"tile": 0, "stages": []}}, "schedule is invalid"),
        ({"prior": {"codebook": 7, "id": "xyz", "config": {}}}, "7 codewords"),
        ({"prior": {"codebook": 16, "window": 3, "config": {}}}, "window is 3"),
        ({"prior": {"codebook": 16, "unknown": 99, "config": {}}}, "prior.unknown"),
        ({"patch": 8}, "patch is 8"),
        ({"weights": {"file": "../weights", "bytes": 1, "sha256": ""}}, "plain file name"),
        ({"weights": None}, "lacks"),
    ],
)
def test_faulty_manifests(copied: Path, entries: dict[str, object], text: str) -> None:
    change(copied, **entries)
    with pytest.raises(BundleError, match=text):
        Bundle.load(copied)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (None, "stage3 int8 has no proof"),
        ({"graph": "00"}, "another graph or to other weights"),
        ({"weights": "00"}, "another graph or to other weights"),
        ({"inputs": {"tokens": [0, 16]}}, "does not cover the tokens from 0 to 17"),
        ({"slack_bits": -0.5}, "slack of -0.5 bits"),
    ],
)
def test_certificates_belong_to_their_graphs(copied: Path, entry: dict[str, object] | None, text: str) -> None:
    graphs = json.loads((copied / "manifest.json").read_text())["graphs"]
    stage = graphs["stage3"]["precisions"]["int8"]
    stage["proof"] = None if entry is None else {**stage["proof"], **entry}
    change(copied, graphs=graphs)
    with pytest.raises(BundleError, match=text):
        Bundle.load(copied)


def test_no_bundle_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json is missing"):
        Bundle.load(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="not valid JSON"):
        Bundle.load(tmp_path)


def test_another_id_than_the_weights_have(copied: Path) -> None:
    prior = json.loads((copied / "manifest.json").read_text())["prior"]
    change(copied, prior={**prior, "id": "00" * 32})
    with pytest.raises(BundleError, match="prior id"):
        Bundle.load(copied)


def test_a_manifest_that_was_changed_is_refused(copied: Path) -> None:
    """Whatever byte was changed, and although the bundle that results may be valid."""
    path = copied / "manifest.json"
    data = path.read_bytes()
    assert resealed(data) == data == sealed(json.loads(data))
    halo = json.loads(data)["graphs"]["decoder"]["halo"]
    changes = [data.replace(b'"halo": %d' % halo, b'"halo": 0'), data.replace(b'"opset": ', b'"opset":  ')]
    digit = data.index(b'"id": "') + len('"id": "')
    changes += [data[:digit] + bytes([data[digit] ^ 1]) + data[digit + 1 :], data.replace(b'"seal": "', b'"seal": "0')]
    changes += [
        data.replace(b'"seal"', b'"other"'),
        data.replace(b'"made_with": {', b'"made_with": {"seal": "%s",' % (b"0" * 64)),
    ]
    for changed in changes:
        assert changed != data
        path.write_bytes(changed)
        with pytest.raises(BundleError, match="seal"):
            Bundle.load(copied)
    path.write_bytes(resealed(changes[1]))
    assert Bundle.load(copied).manifest == json.loads(changes[1]) | {"seal": json.loads(resealed(changes[1]))["seal"]}


def test_pytorch_reads_the_same_weights(tiny_path: Path) -> None:
    from safetensors.numpy import load_file

    bundle = Bundle.load(tiny_path)
    tensors = load_file(tiny_path / "weights.safetensors")
    assert set(tensors) == set(bundle.weights)
    for name, value in tensors.items():
        assert np.array_equal(bundle.weights.read(name), value), name


@pytest.mark.parametrize("how", ["in place", "replaced", "deleted"])
def test_a_bundle_that_changes_under_a_codec(copied: Path, how: str) -> None:
    """Whatever was computed with changed weights is an error, and neither an image nor a file."""
    pixels = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    codec, weights = Codec(copied, threads=1), copied / "weights.safetensors"
    data = codec.compress(pixels)
    content = bytearray(weights.read_bytes())
    content[-1000:] = content[-1000:][::-1]
    if how != "in place":
        weights.unlink()
    if how != "deleted":
        weights.write_bytes(content)
    for work in (lambda: codec.decompress(data), lambda: codec.compress(pixels)):
        with pytest.raises((BundleError, ProviderError)):  # of which the provider cannot load what is gone
            work()
    with pytest.raises(BundleError, match="changed while the bundle was in use"):
        codec.bundle.check_unchanged()
