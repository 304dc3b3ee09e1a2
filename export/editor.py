"""Rebuild an ONNX graph node by node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

Array = NDArray[Any]


def _cast(node: NodeProto, array: Array) -> Array:
    return array.astype(helper.tensor_dtype_to_np_dtype(helper.get_node_attr_value(node, "to")))


_FOLDED: dict[str, Callable[..., Array]] = {
    "Cast": _cast,
    "Sub": lambda node, one, other: one - other,
    "Mul": lambda node, one, other: one * other,
}
"""The operators by which graphs make weights from stored ones, those of matrices aside."""


class Editor:
    """A copy of a graph without its nodes; append the new ones to :attr:`nodes`."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.constants = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self.producers = {output: node for node in model.graph.node for output in node.output}
        self.nodes: list[NodeProto] = []
        self._outputs: set[str] = set()

    def once(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        """Add a node, unless one with this output was added before, and return ``output``."""
        if output not in self._outputs:
            self._outputs.add(output)
            self.nodes.append(helper.make_node(operator, inputs, [output], f"node_{output}", **attributes))
        return output

    def constant(self, name: str, array: Array) -> str:
        """Add an initializer, unless one with this name exists, and return ``name``."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def array(self, name: str) -> Array | None:
        """Return the values of an initializer, or None if the tensor is computed."""
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def constant_value(self, name: str) -> Array | None:
        """Return the values of an initializer, or of a tensor that nodes of :data:`_FOLDED` compute from some."""
        node = self.producers.get(name)
        if node is None or node.op_type not in _FOLDED:
            return self.array(name)
        operands = [self.constant_value(each) for each in node.input]
        known = [operand for operand in operands if operand is not None]
        return _FOLDED[node.op_type](node, *known) if len(known) == len(operands) else None

    def finish(self) -> onnx.ModelProto:
        """Return the graph with the new nodes, without nodes and initializers that no output depends on."""
        graph = self.model.graph
        needed = {entry.name for entry in graph.output}
        kept: list[NodeProto] = []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                needed |= set(node.input)
                kept.append(node)
        del graph.node[:]
        graph.node.extend(reversed(kept))
        del graph.initializer[:]
        graph.initializer.extend(tensor for name, tensor in self.constants.items() if name in needed)
        return self.model


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the type of each tensor as a ``TensorProto.DataType``."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {entry.name: entry.type.tensor_type.elem_type for entry in (*graph.input, *graph.value_info, *graph.output)}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}
