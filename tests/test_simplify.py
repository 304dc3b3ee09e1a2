"""Simplifying a graph leaves fewer nodes and the same values."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from uigc.export.simplify import simplify

INT64, FLOAT = TensorProto.INT64, TensorProto.FLOAT


def traced(target: list[str | int]) -> onnx.ModelProto:
    """Return a graph in the exporter's style: x ("batch", "rows", 6) reshaped to ``target`` by a computed shape, and a
    table that is cast and reshaped at run time."""
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
        ([3, "batch", "rows", 2], None),  # no size stays on its axis, so two would have to be -1
    ],
)
def test_shapes_are_stated_where_they_can_be(target: list[str | int], stated: list[int] | None) -> None:
    model = traced(target)
    simplified = simplify(model)
    onnx.checker.check_model(simplified)
    operators = [node.op_type for node in simplified.graph.node]
    assert operators.count("Cast") == 0
    assert operators.count("Reshape") == 1
    if stated is not None:
        assert operators == ["Reshape", "Gather"]
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in simplified.graph.initializer}
        assert constants[simplified.graph.node[0].input[1]].tolist() == stated
    else:
        assert "Concat" in operators
    for batch, rows in ((1, 1), (2, 5)):
        x = np.random.default_rng(0).random((batch, rows, 6), np.float32)
        assert np.array_equal(value(simplified, x), value(model, x))


def redundant() -> onnx.ModelProto:
    """Return a graph on x ("rows", 8) that has reordered rows, a product and a sum, a mean, a slice of a slice, and a
    reshaped lookup."""
    constants = {
        "two": np.array(2), "zero": np.array(0), "one": np.array(1), "flat": np.array([-1]), "axis0": np.array([0]),
        "axis1": np.array([1]), "one_vector": np.array([1]), "far": np.array([2**63 - 1]),
        "matrix": np.array([8, 4, 3]), "eighth": np.array(0.125, np.float32),
        "weight": np.arange(64, dtype=np.float32).reshape(8, 8) - 30, "index": np.array([0, 5, 5, 1, 2, 7] * 2),
    }  # fmt: skip
    shapes = {
        "order": ["again"], "moved": ["again", 8], "product": ["again", 8], "onto": ["again", 8], "below": ["b", 8],
        "looked": [8, 12], "table": [8, 4, 3],
    }  # fmt: skip
    graph = helper.make_graph(
        redundant_nodes(),
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, ["rows", 8])],
        [helper.make_tensor_value_info("y", FLOAT, ["again", 1])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
        value_info=[
            helper.make_tensor_value_info(name, INT64 if name == "order" else FLOAT, shape)
            for name, shape in shapes.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def redundant_nodes() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Shape", ["x"], ["size"], start=0, end=1),
        helper.make_node("Squeeze", ["size"], ["rows"]),
        helper.make_node("Div", ["rows", "two"], ["half"]),
        helper.make_node("Mul", ["half", "two"], ["again"]),
        helper.make_node("Range", ["zero", "again", "one"], ["order"]),
        helper.make_node("Reshape", ["order", "flat"], ["order_flat"]),
        helper.make_node("Gather", ["x", "order_flat"], ["moved"], axis=0),
        helper.make_node("Gemm", ["moved", "weight"], ["product"], transB=1),
        helper.make_node("Add", ["moved", "product"], ["onto"]),
        helper.make_node("ReduceSum", ["onto", "flat"], ["sums"], keepdims=1),
        helper.make_node("Mul", ["sums", "eighth"], ["means"]),
        helper.make_node("Slice", ["onto", "one_vector", "far", "axis0", "one_vector"], ["below"]),
        helper.make_node("Slice", ["below", "one_vector", "far", "axis1", "one_vector"], ["corner"]),
        helper.make_node("Gather", ["weight", "index"], ["looked"], axis=1),
        helper.make_node("Reshape", ["looked", "matrix"], ["table"]),
        helper.make_node("ReduceSum", ["corner"], ["first"], keepdims=0),
        helper.make_node("ReduceSum", ["table"], ["second"], keepdims=0),
        helper.make_node("Reshape", ["half", "flat"], ["half_vector"]),
        helper.make_node("Cast", ["half_vector"], ["third"], to=FLOAT),
        helper.make_node("Sum", ["means", "first", "second", "third"], ["y"]),
    ]


def test_two_nodes_become_one_where_one_operator_suffices() -> None:
    model = redundant()
    simplified = simplify(model)
    onnx.checker.check_model(simplified)
    operators = [node.op_type for node in simplified.graph.node]
    assert operators == [
        "Shape", "Div", "Mul", "Squeeze", "Range", "Gather", "Gemm", "ReduceMean", "Slice", "Gather", "ReduceSum",
        "ReduceSum", "Cast", "Sum",
    ]  # fmt: skip
    x = np.random.default_rng(0).integers(-9, 9, (6, 8)).astype(np.float32)
    assert np.array_equal(value(simplified, x), value(model, x))


def test_a_product_with_another_reader_is_not_fused() -> None:
    model = redundant()
    for node in model.graph.node:
        if node.op_type == "Sum":
            node.input.append("product_sum")
    model.graph.node.insert(9, helper.make_node("ReduceSum", ["product"], ["product_sum"], keepdims=0))
    simplified = simplify(model)
    assert [node.op_type for node in simplified.graph.node].count("Add") == 1
    x = np.random.default_rng(1).integers(-9, 9, (4, 8)).astype(np.float32)
    assert np.array_equal(value(simplified, x), value(model, x))


def sized(axes: int) -> onnx.ModelProto:
    """Return a graph that needs the first ``axes`` sizes of x ("rows", 2 * "pairs") in arithmetic with arrays."""
    nodes = [
        helper.make_node("Shape", ["x"], ["size0"], start=0, end=1),
        helper.make_node("Squeeze", ["size0"], ["rows"]),
        helper.make_node("Mod", ["numbers", "rows"], ["turns"]),
        helper.make_node("Shape", ["x"], ["size1"], start=1, end=2),
        helper.make_node("Squeeze", ["size1"], ["columns"]),
        helper.make_node("Div", ["columns", "two"], ["pairs"]),
        helper.make_node("Mul", ["turns", "pairs"], ["scaled"]),
        helper.make_node("Squeeze", ["scaled"], ["y"]),
    ]
    if axes == 1:
        nodes = [*nodes[:3], helper.make_node("Squeeze", ["turns"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, ["rows", "columns"])],
        [helper.make_tensor_value_info("y", INT64, [5])],
        [
            numpy_helper.from_array(np.array(2), "two"),
            numpy_helper.from_array(np.array([[-4], [-1], [0], [3], [7]]), "numbers"),
        ],
        value_info=[
            helper.make_tensor_value_info("turns", INT64, [5, 1]),
            helper.make_tensor_value_info("scaled", INT64, [5, 1]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize(
    ("axes", "operators"),
    [(1, ["Shape", "Mod", "Squeeze"]), (2, ["Shape", "Div", "Split", "Mod", "Mul", "Squeeze"])],
)
def test_sizes_are_computed_once_and_stay_vectors(axes: int, operators: list[str]) -> None:
    model = sized(axes)
    simplified = simplify(model)
    onnx.checker.check_model(simplified)
    assert [node.op_type for node in simplified.graph.node] == operators
    for shape in ((3, 8), (5, 2)):
        x = np.zeros(shape, np.float32)
        assert np.array_equal(value(simplified, x), value(model, x))


@pytest.mark.parametrize(("count", "operators"), [(4, ["Add"]), (9, ["Gather", "Add"])])
def test_lookups_in_constants_are_folded_unless_the_result_is_larger(count: int, operators: list[str]) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "index"], ["looked"], axis=0),
        helper.make_node("Add", ["x", "looked"], ["y"]),
    ]
    constants = {"table": np.arange(16, dtype=np.float32).reshape(8, 2), "index": np.arange(count, dtype=np.int64) % 8}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, [count, 2])],
        [helper.make_tensor_value_info("y", FLOAT, [count, 2])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    simplified = simplify(model)
    assert [node.op_type for node in simplified.graph.node] == operators
    x = np.ones((count, 2), np.float32)
    assert np.array_equal(value(simplified, x), value(model, x))
