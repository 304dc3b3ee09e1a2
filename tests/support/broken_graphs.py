"""Graphs of a bundle altered so that they load and run, and return what no graph should; hashes are repaired."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from uigc.runtime.bundle.seal import sealed

Edit = Callable[[onnx.ModelProto], None]
INNER = "inner"
"""The name under which an edit finds what the graph used to return."""


def edited(folder: Path, graph: str, edit: Edit, **others: Any) -> None:
    """Edit every precision of a graph of a bundle in place; ``others``: new values of the graph's manifest entry."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["graphs"][graph] |= others
    for entry in manifest["graphs"][graph]["precisions"].values():
        model = onnx.load(folder / entry["file"], load_external_data=False)
        edit(model)
        replace(folder, entry, model.SerializeToString())
    (folder / "manifest.json").write_bytes(sealed(manifest))


def replace(folder: Path, entry: dict[str, Any], data: bytes) -> None:
    """Write a graph's file, and state its size and hashes in the manifest's entry."""
    (folder / entry["file"]).write_bytes(data)
    entry["bytes"], entry["sha256"] = len(data), hashlib.sha256(data).hexdigest()
    if "proof" in entry:
        entry["proof"]["graph"] = entry["sha256"]


def ending_in(nodes: Sequence[onnx.NodeProto], output: onnx.ValueInfoProto, **constants: np.ndarray) -> Edit:
    """An edit: the graph's only output becomes ``INNER``, and ``nodes`` make ``output`` of it."""

    def edit(model: onnx.ModelProto) -> None:
        (old,) = model.graph.output

        def renamed(name: str) -> str:
            if name == INNER or name.startswith(("added.", "earlier.")):  # by an earlier edit
                return f"earlier.{name}"
            return INNER if name == old.name else name

        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = map(renamed, names)
        for constant in model.graph.initializer:
            constant.name = renamed(constant.name)
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
        model.graph.output.remove(old)
        model.graph.output.append(output)

    return edit


def through(operator: str, name: str, dtype: int, *constants: np.ndarray, **attributes: Any) -> Edit:
    """An edit: the output ``name`` goes through one more operator, with constants as its other inputs."""
    inputs = {f"added.{place}": value for place, value in enumerate(constants)}
    node = helper.make_node(operator, [INNER, *inputs], [name], **attributes)
    return ending_in([node], helper.make_tensor_value_info(name, dtype, None), **inputs)


def with_one(name: str, number: float) -> Edit:
    """An edit: the eighth number of the output ``name`` is this one."""
    dtype = np.float32 if name == "image" else np.int32
    nodes = [
        helper.make_node("Shape", [INNER], ["added.shape"]),
        helper.make_node("Reshape", [INNER, "added.flat"], ["added.row"]),
        helper.make_node("ScatterND", ["added.row", "added.place", "added.number"], ["added.changed"]),
        helper.make_node("Reshape", ["added.changed", "added.shape"], [name]),
    ]
    output = helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), None)
    constants = {"flat": np.array([-1]), "place": np.array([[7]]), "number": np.array([number], dtype=dtype)}
    return ending_in(nodes, output, **{f"added.{key}": value for key, value in constants.items()})


def _cut(name: str, dtype: int, axis: int, end: int) -> Edit:
    return through("Slice", name, dtype, np.array([0]), np.array([end]), np.array([axis]))


OTHERS: dict[str, Callable[[str, int], Edit]] = {
    "shorter rows": lambda name, dtype: _cut(name, dtype, -1, -1),
    "nothing": lambda name, dtype: _cut(name, dtype, 1, 0),
    "no batch": lambda name, dtype: through("Squeeze", name, dtype, np.array([0])),
    "one more side": lambda name, dtype: through("Unsqueeze", name, dtype, np.array([0])),
    "wider numbers": lambda name, dtype: through("Cast", name, TensorProto.INT64, to=TensorProto.INT64),
    "narrower numbers": lambda name, dtype: through("Cast", name, TensorProto.INT8, to=TensorProto.INT8),
    "texts": lambda name, dtype: through("Cast", name, TensorProto.STRING, to=TensorProto.STRING),
    "a list": lambda name, dtype: ending_in(
        [helper.make_node("SequenceConstruct", ["inner"], [name])],
        helper.make_tensor_sequence_value_info(name, dtype, None),
    ),
    "a failure": lambda name, dtype: through("Reshape", name, dtype, np.array([7, 11, 13])),
    "another name": lambda name, dtype: through("Identity", "other", dtype),
}
"""What no graph returns: edits of the output of a name and a type."""
