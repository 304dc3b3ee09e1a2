"""A bundle of version 2 from one of version 3: its images are planes of floats, and the arithmetic around them is the
runtime's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from uigc.export.byte_images import IMAGE, LEVELS, PLANES
from uigc.runtime.bundle.manifest import file_entry
from uigc.runtime.bundle.seal import sealed

ENDS = (PLANES, f"{IMAGE}.float", f"{IMAGE}.scaled", f"{IMAGE}.rounded", IMAGE)
"""What the nodes between bytes and planes compute."""
SHAPES = {"encoder": ["batch", 3, "16*height", "16*width"], "decoder": ["batch", 3, "16*rows", "16*columns"]}


def as_version_2(path: Path, out: Path) -> Path:
    """Copy the bundle at ``path`` to ``out`` as one of version 2."""
    shutil.copytree(path, out)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["version"] = 2
    for name, shape in SHAPES.items():
        entry = manifest["graphs"][name]
        entry["inputs" if name == "encoder" else "outputs"] = [{"name": IMAGE, "dtype": "float32", "shape": shape}]
        for variant in entry["precisions"].values():
            file = out / variant["file"]
            graph = onnx.load(file, load_external_data=False)
            _take_ends_off(graph.graph, name)
            onnx.save(graph, file)
            variant |= {**file_entry(file), "nodes": len(graph.graph.node)}
    (out / "manifest.json").write_bytes(sealed(manifest))
    return out


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
