"""Bundles whose int8 graphs have a form that ONNX Runtime fuses into something inexact: what ``uigc verify`` is for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from uigc.runtime.bundle.manifest import MANIFEST, sha256
from uigc.runtime.bundle.seal import sealed

Edit = Callable[[onnx.ModelProto], None]


def weights_alone(model: onnx.ModelProto) -> None:
    """Activations rounded and clipped in float, DequantizeLinear on the weights only: MatMulNBits, from the extended
    optimizations on."""
    constants = {tensor.name for tensor in model.graph.initializer}
    limits = {"unsafe.low": -128.0, "unsafe.high": 127.0}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            node = helper.make_node("Round", [node.input[0]], [node.output[0]])
        elif node.op_type == "DequantizeLinear" and node.input[0] not in constants:
            node = helper.make_node("Clip", [node.input[0], *limits], [node.output[0]])
        nodes.append(node)
    _replace(model, nodes)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), name) for name, value in limits.items()
    )


def no_zero_point(model: onnx.ModelProto) -> None:
    """All rounding to int8 as QuantizeLinear, and DequantizeLinear without a zero point: from the basic optimizations
    on it is moved on as QuantizeLinear without one, which is uint8."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    rounds = {node.output[0]: node for node in model.graph.node if node.op_type == "Round"}
    one, zero = next(list(node.input[1:3]) for node in model.graph.node if node.op_type == "QuantizeLinear")
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        rounding = rounds.get(node.input[0]) if node.op_type == "Clip" else None
        if rounding and float(numpy_helper.to_array(constants[node.input[1]])) == -128:
            middle = f"{node.output[0]}.unsafe"
            nodes.append(helper.make_node("QuantizeLinear", [rounding.input[0], one, zero], [middle]))
            nodes.append(helper.make_node("DequantizeLinear", [middle, one], [node.output[0]]))
        else:
            nodes.append(node)
    _replace(model, nodes)


def _replace(model: onnx.ModelProto, nodes: list[NodeProto]) -> None:
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def spoil(bundle: Path, out: Path, edit: Edit, graph: str = "stage5", precision: str = "int8") -> Path:
    """A copy of a bundle with one graph edited and the manifest made to vouch for it."""
    shutil.copytree(bundle, out)
    manifest = json.loads((out / MANIFEST).read_text())
    entry = manifest["graphs"][graph]["precisions"][precision]
    path = out / entry["file"]
    model = onnx.load(path, load_external_data=False)
    edit(model)
    onnx.save(model, path)
    entry["sha256"] = entry["proof"]["graph"] = sha256(path)
    entry["bytes"] = path.stat().st_size
    (out / MANIFEST).write_bytes(sealed(manifest))
    return out
