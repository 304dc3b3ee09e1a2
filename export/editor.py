"""Rebuild an ONNX graph node by node."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

Array = NDArray[np.generic]


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
