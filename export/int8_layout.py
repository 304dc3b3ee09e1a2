"""Arrange a graph for ONNX Runtime's int8 kernels: matrices (1, rows, width), and MatMul and Add in place of Gemm.

ONNX Runtime 1.32 turns a MatMul and an Add of two dimensions into a Gemm before it looks for int8 kernels, and it has
no int8 kernel for that Gemm. With three dimensions it leaves them alone.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from uigc.export.editor import Editor, types

_KEEPS_ROWS = {"Mul", "Add", "Sub", "Round", "Clip", "Cast", "Abs", "ReduceMean", "ReduceSum", "Max", "Min", "MatMul"}


def to_int8_layout(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same graph, in which every matrix of rows, and all that is computed from it row by row, has a leading
    dimension of 1."""
    editor, kinds, rows = Editor(model), types(model), set[str]()
    output = model.graph.output[0].name
    for original in model.graph.node:
        node = NodeProto()
        node.CopyFrom(original)
        if _makes_rows(node, editor, kinds):
            # (-1, width) becomes (1, -1, width).
            node.input[1] = editor.constant(f"{node.input[1]}.lifted", np.array([1, *_target(node, editor)], np.int64))
            rows.update(node.output)
        elif rows.intersection(node.input):
            # Follow the rows; a lookup of rows is along axis 1 now.
            if node.op_type == "Gather" and node.input[0] in rows:
                del node.attribute[:]
                node.attribute.append(helper.make_attribute("axis", 1))
            if node.op_type in _KEEPS_ROWS or node.op_type in ("Gather", "Gemm"):
                rows.update(node.output)
        if output in node.output and output in rows:
            node.output[0] = f"{output}.lifted"
        editor.nodes += _matmul_and_add(node, editor) if node.op_type == "Gemm" else [node]
    if output in rows:  # the graph's output keeps its shape
        editor.once("Squeeze", [f"{output}.lifted", editor.constant("axis.0", np.array([0], np.int64))], output)
    return editor.finish()


def _target(node: NodeProto, editor: Editor) -> list[int]:
    """Return the constant shape of a Reshape, empty if it is computed."""
    target = editor.array(node.input[1])
    return [] if target is None else [int(size) for size in target]


def _makes_rows(node: NodeProto, editor: Editor, kinds: dict[str, int]) -> bool:
    if node.op_type != "Reshape" or kinds.get(node.input[0]) != TensorProto.FLOAT:
        return False
    target = _target(node, editor)
    return len(target) == 2 and target[0] == -1


def _matmul_and_add(node: NodeProto, editor: Editor) -> list[NodeProto]:
    """Return a Gemm by constant weights as MatMul, followed by Add if the Gemm has a third input."""
    weight = node.input[1]
    if any(entry.name == "transB" and entry.i for entry in node.attribute):
        array = editor.array(weight)
        assert array is not None, f"the transposed operand of {node.name} is not a constant"
        weight = f"{weight}.T"
        if weight not in editor.constants:
            editor.constants[weight] = numpy_helper.from_array(np.ascontiguousarray(array.T), weight)
    added = list(node.input[2:])
    product = f"{node.output[0]}.product" if added else node.output[0]
    nodes = [helper.make_node("MatMul", [node.input[0], weight], [product], node.name)]
    if added:
        nodes.append(helper.make_node("Add", [product, *added], [node.output[0]], f"{node.name}.sum"))
    return nodes
