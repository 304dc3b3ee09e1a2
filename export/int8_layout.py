"""Matrices of rows with a leading dimension of 1, and products with weights as MatMul and Add.

It is for ONNX Runtime 1.32: of a MatMul and an Add of two dimensions it makes a Gemm before it looks for int8 kernels,
and has none for that.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from uigc.export.editor import Editor, types

_CARRIED = {"Mul", "Add", "Sub", "Round", "Clip", "Cast", "Abs", "ReduceMean", "ReduceSum", "Max", "Min", "MatMul"}


def lifted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph; what is reshaped to rows, and all that is computed of it row by row, has one dimension more."""
    editor, kinds, rows = Editor(model), types(model), set[str]()
    output = model.graph.output[0].name
    for original in model.graph.node:
        node = NodeProto()
        node.CopyFrom(original)
        if _makes_rows(node, editor, kinds):
            node.input[1] = editor.constant(f"{node.input[1]}.lifted", np.array([1, *_target(node, editor)], np.int64))
            rows.update(node.output)
        elif rows.intersection(node.input):
            if node.op_type == "Gather" and node.input[0] in rows:
                del node.attribute[:]
                node.attribute.append(helper.make_attribute("axis", 1))
            if node.op_type in _CARRIED or node.op_type in ("Gather", "Gemm"):
                rows.update(node.output)
        if output in node.output and output in rows:
            node.output[0] = f"{output}.lifted"
        editor.nodes += _product_and_sum(node, editor) if node.op_type == "Gemm" else [node]
    if output in rows:
        editor.once("Squeeze", [f"{output}.lifted", editor.constant("axis.0", np.array([0], np.int64))], output)
    return editor.finish()


def _target(node: NodeProto, editor: Editor) -> list[int]:
    target = editor.array(node.input[1])
    return [] if target is None else [int(size) for size in target]


def _makes_rows(node: NodeProto, editor: Editor, kinds: dict[str, int]) -> bool:
    if node.op_type != "Reshape" or kinds.get(node.input[0]) != TensorProto.FLOAT:
        return False
    target = _target(node, editor)
    return len(target) == 2 and target[0] == -1


def _product_and_sum(node: NodeProto, editor: Editor) -> list[NodeProto]:
    """A Gemm by constant weights as MatMul, and Add if it adds something."""
    turned = any(entry.name == "transB" and entry.i for entry in node.attribute)
    weight = node.input[1]
    if turned:
        array = editor.array(weight)
        assert array is not None, f"{node.name} multiplies by what is no constant"
        weight = f"{weight}.T"
        if weight not in editor.constants:
            editor.constants[weight] = numpy_helper.from_array(np.ascontiguousarray(array.T), weight)
    added = list(node.input[2:])
    product = f"{node.output[0]}.product" if added else node.output[0]
    nodes = [helper.make_node("MatMul", [node.input[0], weight], [product], node.name)]
    if added:
        nodes.append(helper.make_node("Add", [product, *added], [node.output[0]], f"{node.name}.sum"))
    return nodes
