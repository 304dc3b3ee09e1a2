"""Half-precision graphs of encoder and pixel decoder.

Pixels are tolerant, so everything is float16 except what loses digits there: the norms' mean squares and roots, group
norms, softmax, and the cosines or distances among which the encoder takes the best. Graphs are typed throughout,
as TensorRT wants them; inputs and outputs keep their types.
"""

from __future__ import annotations

import onnx
from onnx import NodeProto, TensorProto, helper

from uigc.export.editor import Editor, types

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
_WIDE = {"ReduceMean", "Sqrt", "Reciprocal", "ArgMax", "Softmax", "InstanceNormalization", "GroupNormalization"}
_PREPARING = {"Mul", "Add", "Conv"}
_LEFT = {"Resize": slice(1, None)}
"""Inputs that stay float32 by the operators' definition: here, the scales."""
_SUFFIX = {FLOAT: "float", HALF: "half"}


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float32 graph with one input and one output in float16."""
    editor, kinds, wide = Editor(model), types(model), _wide(model)
    have = {entry.name: FLOAT for entry in model.graph.input if kinds[entry.name] == FLOAT}
    results = {entry.name for entry in model.graph.output if kinds[entry.name] == FLOAT}

    def taken(name: str, kind: int) -> str:
        """``name`` as that type."""
        array = editor.array(name)
        if array is not None:
            made = f"{name}.{_SUFFIX[kind]}"
            return name if kind == FLOAT else editor.constant(made, array.astype(helper.tensor_dtype_to_np_dtype(kind)))
        if have[name] == kind:
            return name
        return editor.once("Cast", [name], f"{name}.{_SUFFIX[kind]}", to=kind)

    for original in model.graph.node:
        node = NodeProto()
        node.CopyFrom(original)
        kind = FLOAT if original.name in wide else HALF
        left = set(node.input[_LEFT.get(node.op_type, slice(0))])
        node.input[:] = [name if name in left or kinds.get(name) != FLOAT else taken(name, kind) for name in node.input]
        if node.op_type == "Cast" and kinds[node.output[0]] == FLOAT:
            node.attribute[0].i = kind
        for index, name in enumerate(node.output):
            if kinds.get(name) == FLOAT:
                have[name] = kind
                if name in results and kind == HALF:
                    node.output[index] = f"{name}.half"
        editor.nodes.append(node)
        for name in results.intersection(original.output):
            if have[name] == HALF:
                editor.once("Cast", [f"{name}.half"], name, to=FLOAT)
    return editor.finish()


def _wide(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes that stay float32: those of ``_WIDE``, and what does nothing but prepare their inputs."""
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def prepares(node: NodeProto) -> bool:
        after = [reader.op_type for name in node.output for reader in readers.get(name, [])]
        return node.op_type in _PREPARING and bool(after) and set(after) <= _WIDE

    return {node.name for node in model.graph.node if node.op_type in _WIDE or prepares(node)}
