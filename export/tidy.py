"""What the exporter computes at run time though it is known: shapes of reshapes, reshaped and cast tables.

Values do not change; fewer and simpler nodes are left for every provider to read.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from uigc.export.editor import Editor

Shape = tuple[int | str, ...]


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with constant shapes where the symbolic ones in its ``value_info`` allow, and constants folded."""
    editor, shapes = Editor(model), _shapes(model)
    renamed: dict[str, str] = {}
    for original in model.graph.node:
        node = NodeProto()
        node.CopyFrom(original)
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.op_type == "Reshape" and editor.array(node.input[1]) is None:
            _state_shape(node, editor, shapes)
        folded = _folded(node, editor)
        if folded is not None:
            renamed[node.output[0]] = editor.constant(f"{node.input[0]}.{node.output[0]}", folded)
        else:
            editor.nodes.append(node)
    return editor.finish()


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Sizes are numbers or symbols; a size of which nothing is known is a symbol that occurs once."""
    graph = model.graph
    return {
        entry.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{entry.name}[{axis}]"
            for axis, dim in enumerate(entry.type.tensor_type.shape.dim)
        )
        for entry in (*graph.input, *graph.value_info, *graph.output)
    }


def _state_shape(node: NodeProto, editor: Editor, shapes: Mapping[str, Shape]) -> None:
    """Replace a computed shape by 0 (as in the input) and one -1 (what is left), where that says the same."""
    source, target = shapes.get(node.input[0]), shapes.get(node.output[0])
    if source is None or target is None:
        return
    stated = [
        size if isinstance(size, int) else 0 if axis < len(source) and source[axis] == size else -1
        for axis, size in enumerate(target)
    ]
    if stated.count(-1) <= 1:
        node.input[1] = editor.constant("shape." + ".".join(map(str, stated)), np.array(stated, np.int64))
        del node.attribute[:]  # allowzero, under which 0 would mean an empty dimension


def _folded(node: NodeProto, editor: Editor) -> np.ndarray | None:
    """The value of a Reshape or of an integer Cast of a constant."""
    if node.op_type not in ("Reshape", "Cast"):
        return None
    operands = [editor.array(name) for name in node.input]
    if any(operand is None for operand in operands):
        return None
    if node.op_type == "Reshape":
        shape = [int(size) for size in operands[1].tolist()]  # type: ignore[union-attr]
        return operands[0].reshape(shape) if 0 not in shape else None  # type: ignore[union-attr]
    if operands[0].dtype == np.int32 and node.attribute[0].i == TensorProto.INT64:  # type: ignore[union-attr]
        return operands[0].astype(np.int64)  # type: ignore[union-attr]
    return None
