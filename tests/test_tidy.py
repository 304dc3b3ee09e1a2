"""Tidying leaves fewer nodes and the same values."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from uigc.export.tidy import tidy

INT64, FLOAT = TensorProto.INT64, TensorProto.FLOAT


def traced(target: list[str | int]) -> onnx.ModelProto:
    """x ("batch", "rows", 6) reshaped to ``target`` by a shape that is computed, as the exporter writes it, and a table
    that is cast and reshaped at run time."""
    nodes = [
        helper.make_node("Shape", ["x"], ["batch"], start=0, end=1),
        helper.make_node("Shape", ["x"], ["rows"], start=1, end=2),
        helper.make_node("Mul", ["rows", "two"], ["twice"]),
        helper.make_node("Concat", [str(size) for size in target], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["view"], allowzero=1),
        helper.make_node("Cast", ["table"], ["long"], to=INT64),
        helper.make_node("Reshape", ["long", "flat"], ["index"]),
        helper.make_node("Gather", ["view", "index"], ["y"], axis=len(target) - 1),
    ]
    constants = {"two": np.array([2]), "flat": np.array([3]), "table": np.array([[1, 0, 1]], np.int32)}
    constants |= {str(size): np.array([size]) for size in target if isinstance(size, int)}
    sizes = ["2*rows" if size == "twice" else size for size in target]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, ["batch", "rows", 6])],
        [helper.make_tensor_value_info("y", FLOAT, [*sizes[:-1], 3])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
        value_info=[helper.make_tensor_value_info("view", FLOAT, sizes)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def value(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {"x": x})[0]
    return result


@pytest.mark.parametrize(
    ("target", "stated"),
    [
        (["batch", "rows", 3, 2], [0, 0, 3, 2]),
        (["batch", "twice", 3], [0, -1, 3]),
        ([3, "batch", "rows", 2], None),  # nothing is where it was: two sizes would have to be guessed
    ],
)
def test_shapes_are_stated_where_they_can_be(target: list[str | int], stated: list[int] | None) -> None:
    model = traced(target)
    tidied = tidy(model)
    onnx.checker.check_model(tidied)
    operators = [node.op_type for node in tidied.graph.node]
    assert operators.count("Cast") == 0
    assert operators.count("Reshape") == 1
    if stated is not None:
        assert operators == ["Reshape", "Gather"]
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in tidied.graph.initializer}
        assert constants[tidied.graph.node[0].input[1]].tolist() == stated
    else:
        assert "Concat" in operators
    for batch, rows in ((1, 1), (2, 5)):
        x = np.random.default_rng(0).random((batch, rows, 6), np.float32)
        assert np.array_equal(value(tidied, x), value(model, x))
