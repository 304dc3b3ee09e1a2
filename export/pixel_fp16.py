"""Convert the encoder and the pixel decoder to half precision.

Pixels tolerate rounding, so everything is float16 except what would lose digits there: the norms' mean squares and
roots, group norms, softmax, and the cosines or distances from which the encoder picks the best codeword. Graphs are
strongly typed, with explicit casts, as TensorRT requires; inputs and outputs keep their types.
"""

from __future__ import annotations

import onnx
from onnx import NodeProto, TensorProto, helper

from uigc.export.editor import Editor, types

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
_WIDE = {"ReduceMean", "Sqrt", "Reciprocal", "ArgMax", "Softmax", "InstanceNormalization", "GroupNormalization"}
"""Operators that stay float32."""
_PREPARING = {"Mul", "Add", "Conv"}
"""Operators that stay float32 if nothing but an operator of ``_WIDE`` reads them."""
_FLOAT_INPUTS = {"Resize": slice(1, None)}
"""Inputs that are float32 by the operator's definition: of Resize, the scales."""
_SUFFIX = {FLOAT: "float", HALF: "half"}


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 graph with one input and one output in float16."""
    return _HalfConverter(model).result()


class _HalfConverter:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.editor, self.kinds = model, Editor(model), types(model)
        self.wide = _wide_nodes(model)
        self.current = {entry.name: FLOAT for entry in model.graph.input if self.kinds[entry.name] == FLOAT}
        """The type that each float tensor has in the new graph."""
        self.results = {entry.name for entry in model.graph.output if self.kinds[entry.name] == FLOAT}

    def result(self) -> onnx.ModelProto:
        for original in self.model.graph.node:
            node = NodeProto()
            node.CopyFrom(original)
            kind = FLOAT if original.name in self.wide else HALF
            self._cast_inputs(node, kind)
            if node.op_type == "Cast" and self.kinds[node.output[0]] == FLOAT:
                node.attribute[0].i = kind
            self._add(node, kind)
        return self.editor.finish()

    def _cast_inputs(self, node: NodeProto, kind: int) -> None:
        untouched = set(node.input[_FLOAT_INPUTS.get(node.op_type, slice(0))])
        node.input[:] = [
            name if name in untouched or self.kinds.get(name) != FLOAT else self._as_type(name, kind)
            for name in node.input
        ]

    def _as_type(self, name: str, kind: int) -> str:
        """Return the name of the float tensor ``name`` as type ``kind``, after adding the cast that this needs."""
        array = self.editor.array(name)
        if array is not None:
            if kind == FLOAT:
                return name
            dtype = helper.tensor_dtype_to_np_dtype(kind)
            return self.editor.constant(f"{name}.{_SUFFIX[kind]}", array.astype(dtype))
        if self.current[name] == kind:
            return name
        return self.editor.once("Cast", [name], f"{name}.{_SUFFIX[kind]}", to=kind)

    def _add(self, node: NodeProto, kind: int) -> None:
        """Add a node whose float outputs are of type ``kind``; a float output of the graph is cast back to float32."""
        outputs = [name for name in node.output if self.kinds.get(name) == FLOAT]
        self.current |= dict.fromkeys(outputs, kind)
        results = self.results.intersection(outputs) if kind == HALF else set()
        node.output[:] = [f"{name}.half" if name in results else name for name in node.output]
        self.editor.nodes.append(node)
        for name in results:
            self.editor.once("Cast", [f"{name}.half"], name, to=FLOAT)


def _wide_nodes(model: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes that stay float32."""
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def prepares(node: NodeProto) -> bool:
        after = [reader.op_type for name in node.output for reader in readers.get(name, [])]
        return node.op_type in _PREPARING and bool(after) and set(after) <= _WIDE

    return {node.name for node in model.graph.node if node.op_type in _WIDE or prepares(node)}
