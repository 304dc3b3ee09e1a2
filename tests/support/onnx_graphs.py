"""Small ONNX graphs written by hand, for the proof and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

WIDTH = 8
Node = tuple[str, list[str], str, dict[str, object]]


def node(operator: str, inputs: str, output: str, **attributes: object) -> Node:
    return operator, inputs.split(), output, attributes


def model(nodes: Sequence[Node], opset: int = 18, **constants: np.ndarray) -> onnx.ModelProto:
    """A graph from integers ``tokens`` int32 (n, 8) to ``y``; ``x`` is ``tokens`` as float32."""
    made = [helper.make_node("Cast", ["tokens"], ["x"], "start", to=TensorProto.FLOAT)]
    made += [
        helper.make_node(op, inputs, [output], f"the_{op}_{output}", **attributes)
        for op, inputs, output, attributes in nodes
    ]
    graph = helper.make_graph(
        made,
        "graph",
        [helper.make_tensor_value_info("tokens", TensorProto.INT32, ["n", WIDTH])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def f32(*values: float) -> np.ndarray:
    return np.array(values if len(values) > 1 else values[0], dtype=np.float32)


def i8(value: int = 0) -> np.ndarray:
    return np.array(value, dtype=np.int8)


def intermediates(graph: onnx.ModelProto, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Every tensor of a graph, as ONNX Runtime computes it node by node."""
    opened = onnx.ModelProto()
    opened.CopyFrom(graph)
    names = list(dict.fromkeys(name for each in graph.graph.node for name in each.output if name))
    del opened.graph.output[:]
    opened.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {"tokens": tokens}), strict=True))
