"""Bundles of earlier versions from one of version 4.

In version 3, stages return logits alone, which the runtime sums up. In version 2, images are planes of floats besides,
and the arithmetic around them is the runtime's.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from uigc.export.byte_images import IMAGE, LEVELS, PLANES
from uigc.export.predictions import LOGITS, PREDICTIONS
from uigc.runtime.bundle.manifest import file_entry, is_stage
from uigc.runtime.bundle.seal import sealed

ENDS = (PLANES, f"{IMAGE}.float", f"{IMAGE}.scaled", f"{IMAGE}.rounded", IMAGE)
"""What the nodes between bytes and planes compute."""
SHAPES = {"encoder": ["batch", 3, "16*height", "16*width"], "decoder": ["batch", 3, "16*rows", "16*columns"]}


def as_version_3(path: Path, out: Path) -> Path:
    """Copy the bundle at ``path`` to ``out`` as one of version 3."""
    shutil.copytree(path, out)
    with _changing(out, 3) as manifest:
        codebook = manifest["prior"]["codebook"]
        for name in filter(is_stage, manifest["graphs"]):
            (output,) = manifest["graphs"][name]["outputs"]
            output |= {"name": LOGITS, "shape": [*output["shape"][:2], codebook]}
            for variant in manifest["graphs"][name]["precisions"].values():
                _rewrite(out, variant, partial(_take_sums_off, codebook=codebook))
                variant["proof"] |= {"graph": variant["sha256"]}
    return out


def as_version_2(path: Path, out: Path) -> Path:
    """Copy the bundle at ``path`` to ``out`` as one of version 2."""
    with _changing(as_version_3(path, out), 2) as manifest:
        for name, shape in SHAPES.items():
            entry = manifest["graphs"][name]
            entry["inputs" if name == "encoder" else "outputs"] = [{"name": IMAGE, "dtype": "float32", "shape": shape}]
            for variant in entry["precisions"].values():
                _rewrite(out, variant, partial(_take_ends_off, name=name))
    return out


@contextmanager
def _changing(folder: Path, version: int) -> Iterator[dict[str, Any]]:
    """Give the manifest of a bundle, and write it back with another version."""
    manifest = json.loads((folder / "manifest.json").read_text())
    yield manifest
    (folder / "manifest.json").write_bytes(sealed({**manifest, "version": version}))


def _rewrite(folder: Path, variant: dict[str, Any], change: Callable[[onnx.GraphProto], None]) -> None:
    file = folder / variant["file"]
    model = onnx.load(file, load_external_data=False)
    change(model.graph)
    onnx.save(model, file)
    variant |= {**file_entry(file), "nodes": len(model.graph.node)}


def _take_sums_off(graph: onnx.GraphProto, codebook: int) -> None:
    (largest,) = (node for node in graph.node if node.op_type == "ReduceMax")
    floats = largest.input[0]
    kept = [node for node in graph.node if not node.output[0].startswith(PREDICTIONS) or node.output[0] == floats]
    constants = [tensor for tensor in graph.initializer if not tensor.name.startswith(PREDICTIONS)]
    del graph.node[:], graph.initializer[:]
    graph.node.extend([*kept, helper.make_node("Cast", [floats], [LOGITS], to=TensorProto.INT32)])
    graph.initializer.extend(constants)
    graph.output[0].name = LOGITS
    graph.output[0].type.tensor_type.shape.dim[2].dim_value = codebook


def _take_ends_off(graph: onnx.GraphProto, name: str) -> None:
    produced = ENDS[:3] if name == "encoder" else ENDS[1:]
    kept = [node for node in graph.node if node.output[0] not in produced]
    assert len(graph.node) - len(kept) == len(produced)
    for node in kept:
        node.input[:] = [IMAGE if each == PLANES else each for each in node.input]
        node.output[:] = [IMAGE if each == PLANES else each for each in node.output]
    constants = [tensor for tensor in graph.initializer if tensor.name != LEVELS]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(constants)
    value = graph.input[0] if name == "encoder" else graph.output[0]
    value.CopyFrom(helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT, SHAPES[name]))
