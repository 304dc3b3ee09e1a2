"""Bundles that were altered anywhere: each works or is a BundleError, whatever the values, with all hashes repaired."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from uigc.fuzz.changes import altered, changed
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.manifest import MAX_MANIFEST
from uigc.runtime.bundle.seal import sealed
from uigc.runtime.codec import Codec
from uigc.runtime.errors import BundleError, InexactError, ProviderError, UigcError
from uigc.runtime.outcomes import capture

PIXELS = np.zeros((40, 40, 3), np.uint8)


@pytest.fixture
def copied(tiny_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_path, tmp_path / "bundle"))


def use(folder: Path) -> str:
    """Load a bundle in both ways, compress and decompress: what comes of it."""
    with Codec(folder, threads=1) as codec:
        Bundle.load(folder)
        assert codec.decompress(codec.compress(PIXELS)).shape == PIXELS.shape
    return "works"


def kind_of(folder: Path) -> str:
    outcome = capture(lambda: use(folder))
    if isinstance(outcome, UigcError):
        assert isinstance(outcome, BundleError), repr(outcome.__cause__ or outcome)
    return outcome if isinstance(outcome, str) else "BundleError"


def test_manifests(copied: Path) -> None:
    rng, kinds = random.Random(0), Counter[str]()
    manifest = json.loads((copied / "manifest.json").read_text())
    for _ in range(120):
        (copied / "manifest.json").write_bytes(sealed(altered(manifest, rng)))
        kinds[kind_of(copied)] += 1
    assert min(kinds["works"], kinds["BundleError"]) > 25


def test_headers_of_weights(copied: Path) -> None:
    """The tables, the codebook and the prior's weights at other places, of other types and shapes."""
    rng, kinds = random.Random(1), Counter[str]()
    content, text = (copied / "weights.safetensors").read_bytes(), (copied / "manifest.json").read_text()
    length = int.from_bytes(content[:8], "little")
    header, old = json.loads(content[8 : 8 + length]), hashlib.sha256(content).hexdigest()
    names = [name for name in header if name.startswith(("prior.", "mask.", "coder.", "tokenizer.quantizer"))]
    for _ in range(120):
        chosen = rng.choice(names)
        changed = json.dumps({**header, chosen: altered({"x": header[chosen]}, rng).get("x")}).encode()
        data = len(changed).to_bytes(8, "little") + changed + content[8 + length :]
        (copied / "weights.safetensors").write_bytes(data)
        manifest = json.loads(text.replace(old, hashlib.sha256(data).hexdigest()))
        manifest["weights"]["bytes"] = len(data)
        (copied / "manifest.json").write_bytes(sealed(manifest))
        outcome = capture(lambda: Bundle.load(copied))
        assert isinstance(outcome, Bundle | BundleError), repr(outcome.__cause__ or outcome)
        kinds[type(outcome).__name__] += 1
    assert kinds["BundleError"] > 60


def test_manifests_that_are_too_long_or_too_deep(copied: Path) -> None:
    for content, text in ((b" " * (MAX_MANIFEST + 1), "more than"), (b"[" * 100_000, "not valid JSON")):
        (copied / "manifest.json").write_bytes(content)
        with pytest.raises(BundleError, match=text):
            Bundle.load(copied)


def altered_graph(path: Path, rng: random.Random) -> bytes:
    """A graph with bytes changed or cut off, another one, or one with another interface, node or weight."""
    data, way = path.read_bytes(), rng.randrange(6)
    if way < 3:
        others = sorted(path.parent.glob("*.fp32.onnx"))
        return (changed(data, rng), data[: rng.randrange(len(data))], rng.choice(others).read_bytes())[way]
    model = onnx.load_from_string(data)
    tensor, node, weight = (
        rng.choice(each)
        for each in ([*model.graph.input, *model.graph.output], model.graph.node, model.graph.initializer)
    )
    match way, rng.randrange(2):
        case 3, 0:
            tensor.name = "two\nlines"
        case 3, 1:
            tensor.type.tensor_type.elem_type = rng.choice((1, 6, 7, 10))
        case 4, 0:
            node.op_type = rng.choice(("Add", "Loop", "two\nlines"))
        case 4, 1:
            model.graph.node.remove(node)
        case _, 0:
            weight.dims[:] = [rng.choice((0, 1, -1, 2**40))]
        case _:
            for entry in weight.external_data:
                entry.value = rng.choice(("-1", "99999999999", "../x", "/dev/zero"))
    return bytes(model.SerializeToString())


def test_graphs(copied: Path) -> None:
    """Whatever is wrong with a graph under a right hash, it is an error of ours, or the file is refused."""
    rng, kinds = random.Random(2), Counter[str]()
    text = (copied / "manifest.json").read_text()
    for _ in range(40):
        path = rng.choice(sorted(copied.glob("*.fp32.onnx")))
        data, good = altered_graph(path, rng), path.read_bytes()
        manifest = json.loads(text.replace(hashlib.sha256(good).hexdigest(), hashlib.sha256(data).hexdigest()))
        for graph in manifest["graphs"].values():
            graph["precisions"] = {"fp32": graph["precisions"]["fp32"]}
        manifest["graphs"][path.name.split(".")[0]]["precisions"]["fp32"]["bytes"] = len(data)
        path.write_bytes(data)
        (copied / "manifest.json").write_bytes(sealed(manifest))
        outcome = capture(lambda: use(copied))
        assert outcome == "works" or isinstance(outcome, ProviderError | InexactError), repr(outcome)
        kinds["works" if outcome == "works" else "error"] += 1
        path.write_bytes(good)
    assert kinds["error"] > 25
