"""The proof refuses graphs that may round, and its statements about tensors are true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.support.half_operands import half_operands
from tests.support.onnx_graphs import WIDTH, Node, f32, i8, intermediates, model, node
from uigc.export.proof import ProofError, prove, prove_file, token_domain
from uigc.export.proof.values import Value, constant
from uigc.runtime.bundle import Bundle

NARROW = {"tokens": (-128, 127)}
WEIGHT = (np.arange(WIDTH * WIDTH).reshape(WIDTH, WIDTH) % 127 - 63).astype(np.float32)
RAGGED = np.full((WIDTH, WIDTH), 1 / 3, np.float32)
QUANTIZE = node("QuantizeLinear", "x one zero", "q")
DEQUANTIZE = node("DequantizeLinear", "q one zero", "d")
WEIGHT_INT8 = node("DequantizeLinear", "w8 one", "w")

SIGNS = (np.where(np.arange(WIDTH)[:, None] % 2, -1, 1) * np.ones((1, WIDTH))).astype(np.float32)
"""Weights whose products with numbers of one size nearly cancel, if all of them are added."""
NEAR_THE_END = np.full(WIDTH, 2**24 - 900, np.float32)

BROKEN: dict[str, tuple[list[Node], dict[str, np.ndarray], tuple[int, int], str]] = {
    "exp": ([node("Exp", "x", "y")], {}, (0, 9), "'the_Exp_y' is not proven exact: the operator rounds"),
    "softmax": ([node("Softmax", "x", "y")], {}, (0, 9), "operator rounds"),
    "sqrt": ([node("Sqrt", "x", "y")], {}, (0, 9), "operator rounds"),
    "mean without axes": ([node("ReduceMean", "x", "y")], {}, (0, 9), "not given as a constant"),
    "mean of seven": (
        [node("Slice", "x one seven one", "s"), node("ReduceMean", "s one", "y")],
        {"one": np.array([1]), "seven": np.array([8])}, (0, 9), "it divides by 7",
    ),
    "unknown": ([node("CumSum", "x axis", "y")], {"axis": np.array(1)}, (0, 9), "no rule"),
    "divided by a tensor": ([node("Div", "x x", "y")], {}, (1, 9), "not a constant power of two"),
    "divided by three": ([node("Div", "x c", "y")], {"c": f32(3)}, (0, 9), "not a constant power of two"),
    "sum too large": ([node("Mul", "x c", "m"), node("Add", "m x", "y")], {"c": f32(2**18)}, (-128, 127), r"2\^24"),
    "steps too far apart": (
        [node("Mul", "x c", "m"), node("Add", "m x", "y")], {"c": f32(2**-18)}, (-128, 127), r"2\^24",
    ),
    "product too wide": ([node("Mul", "x c", "y")], {"c": f32(2**17 - 1)}, (-255, 255), "25 significant bits"),
    "sum of too many": ([node("ReduceSum", "x a", "y")], {"a": np.array([1])}, (0, 2**22), "partial sums"),
    "sum over no axes": (
        [node("ReduceSum", "x a", "y")], {"a": np.array([], np.int64)}, (0, 9), "not given as a constant",
    ),
    "ragged weights": ([node("MatMul", "x c", "y")], {"c": RAGGED}, (-128, 127), "second operand"),
    "wide activations": ([node("MatMul", "x c", "y")], {"c": WEIGHT}, (-999, 999), "first operand"),
    "long contraction": (
        [node("Transpose", "x", "t"), node("MatMul", "t x", "y")], {}, (-128, 127), "length of axis -1",
    ),
    "half sums": (
        [node("Cast", "x", "h", to=TensorProto.FLOAT16), node("MatMul", "h c", "y")],
        {"c": WEIGHT.astype(np.float16)}, (-128, 127), r"float16 holds 2\^11.*cast the operands back",
    ),
    "half too narrow": ([node("Cast", "x", "y", to=TensorProto.FLOAT16)], {}, (0, 4097), "float16 holds 11"),
    "half too far": (
        [node("Mul", "x c", "m"), node("Cast", "m", "y", to=TensorProto.FLOAT16)], {"c": f32(2**12)}, (0, 127),
        "exponents of float16",
    ),
    "subnormal": ([node("Mul", "x c", "m"), node("Mul", "m c", "y")], {"c": f32(2.0**-70)}, (0, 9), "exponents of"),
    "double": ([node("Cast", "x", "y", to=TensorProto.DOUBLE)], {}, (0, 9), "casts to float64"),
    "negative fraction to integer": (
        [node("Mul", "x c", "m"), node("Cast", "m", "y", to=TensorProto.INT32)], {"c": f32(0.5)}, (-1, 9),
        "some negative, to integers; round first",
    ),
    "integer overflow": ([node("Cast", "x", "y", to=TensorProto.INT8)], {}, (0, 128), "range of int8"),
    "shape overflow": ([node("Mul", "tokens tokens", "y")], {}, (0, 2**17), "overflow int32"),
    "remainder of floats": ([node("Mod", "x c", "y")], {"c": f32(3)}, (0, 9), "remainder of floats"),
    "remainder by negatives": ([node("Mod", "tokens tokens", "y")], {}, (-1, 9), "by a divisor that may be negative"),
    "negative remainder": (
        [node("Mod", "tokens c", "y", fmod=1)], {"c": np.array(5, np.int32)}, (-1, 9), "remainders may be negative",
    ),
    "table too short": (
        [node("Gather", "c tokens", "y")], {"c": np.arange(9, dtype=np.float32)}, (0, 9), "0 to 9 and the table has 9",
    ),
    "negative row index": ([node("Gather", "x tokens", "y")], {}, (-1, 9), "length of axis 0"),
    "scaled product": ([node("Gemm", "x c", "y", alpha=0.5)], {"c": WEIGHT}, (0, 9), "scales its operands"),
    "transposed rows": ([node("Gemm", "x x", "y", transA=1)], {}, (0, 9), "first operand is transposed"),
    "transposed variable": ([node("Gemm", "x x", "y", transB=1)], {}, (0, 9), "not a constant matrix"),
    "sum onto a product": (
        [node("Mul", "x big", "m"), node("Gemm", "x c m", "y", transB=1)], {"c": WEIGHT, "big": f32(2**18)},
        (-128, 127), r"sums reach.*2\^24",
    ),
    "mean too large": ([node("ReduceMean", "x a", "y")], {"a": np.array([1])}, (0, 2**22), "partial sums"),
    "scale of three": ([node("QuantizeLinear", "x c zero", "y")], {"c": f32(3), "zero": i8()}, (0, 9), "power of two"),
    "half scale": (
        [node("QuantizeLinear", "x one zero", "q"), node("DequantizeLinear", "q h zero", "y")],
        {"one": f32(1), "h": np.array(1, np.float16), "zero": i8()}, (0, 9), "scale is float16",
    ),
    "zero point": ([QUANTIZE], {"one": f32(1), "zero": i8(3)}, (0, 9), "not an int8 0"),
    "unsigned": ([QUANTIZE], {"one": f32(1), "zero": np.array(0, np.uint8)}, (0, 9), "not an int8 0"),
    "no zero point": (
        [QUANTIZE, node("DequantizeLinear", "q one", "y")], {"one": f32(1), "zero": i8()}, (0, 9),
        "without a zero point",
    ),
    "weight alone": (
        [WEIGHT_INT8, node("MatMul", "x w", "y")], {"one": f32(1), "w8": WEIGHT.astype(np.int8)}, (-128, 127),
        "MatMulNBits",
    ),
    "partial sums of products and a bias, in one node": (
        [node("Gemm", "x c b", "y")], {"c": SIGNS, "b": NEAR_THE_END}, (100, 127), "sums reach",
    ),
    "partial sums of products and a bias, which may become one node": (
        [node("MatMul", "x c", "m"), node("Add", "b m", "y")], {"c": SIGNS, "b": NEAR_THE_END}, (100, 127),
        "sums reach",
    ),
    "saturating pairs": (
        [QUANTIZE, DEQUANTIZE, WEIGHT_INT8, node("MatMul", "d w", "y")],
        {"one": f32(1), "zero": i8(), "w8": np.full((WIDTH, WIDTH), 65, np.int8)}, (-128, 127), "saturate",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_refused(case: str) -> None:
    nodes, constants, bounds, text = BROKEN[case]
    with pytest.raises(ProofError, match=text) as raised:
        prove(model(nodes, **constants), {"tokens": bounds})
    assert "the_" in str(raised.value)  # the node
    assert ";" in str(raised.value)  # the remedy


EXACT: dict[str, tuple[list[Node], dict[str, np.ndarray]]] = {
    "float weights": ([node("MatMul", "x c", "y")], {"c": WEIGHT}),
    "half operands, float sums": (
        [node("Cast", "x", "h", to=TensorProto.FLOAT16), node("Cast", "h", "f", to=TensorProto.FLOAT),
         node("MatMul", "f c", "y")],
        {"c": WEIGHT},
    ),
    "int8": (
        [QUANTIZE, DEQUANTIZE, WEIGHT_INT8, node("MatMul", "d w", "y")],
        {"one": f32(1), "zero": i8(), "w8": WEIGHT.astype(np.int8)},
    ),
    "divided by four": ([node("Div", "x c", "y")], {"c": f32(4)}),
    "divided by powers": ([node("Div", "x c", "y")], {"c": np.array([[1.0], [4.0]] * 32, np.float32)}),
    "positive fraction to integer": (
        [node("Mul", "x c", "m"), node("Abs", "m", "a"), node("Cast", "a", "y", to=TensorProto.INT32)],
        {"c": f32(0.3125)},
    ),
    "product and bias": ([node("Gemm", "x c b", "y", transB=1)], {"c": WEIGHT, "b": WEIGHT[0]}),
    "product onto rows": ([node("Gemm", "x c x", "y")], {"c": WEIGHT}),
    "mean of eight": ([node("ReduceMean", "x a", "y", keepdims=0)], {"a": np.array([-1])}),
    "remainders": ([node("Mod", "tokens c", "y")], {"c": np.array([5], np.int32)}),
    "small remainders": (
        [node("Abs", "tokens", "a"), node("Mod", "a c", "y", fmod=1)], {"c": np.array(999, np.int32)},
    ),
    "rows in another order": (
        [node("Shape", "x", "s", start=0, end=1), node("Squeeze", "s", "n"), node("Range", "zero n one", "i"),
         node("Gather", "x i", "y")],
        {"zero": np.array(0), "one": np.array(1)},
    ),
    "fixed": ([node("Mul", "x c", "m"), node("Round", "m", "r"), node("Clip", "r l h", "y")],
              {"c": f32(0.375), "l": f32(-5), "h": f32(40)}),
}  # fmt: skip


@pytest.mark.parametrize("case", EXACT)
def test_an_exact_graph_is_proven(case: str) -> None:
    nodes, constants = EXACT[case]
    check_truth(model(nodes, **constants), NARROW)


def test_an_input_without_bounds_and_a_constant_that_is_not_finite() -> None:
    with pytest.raises(ProofError, match="'tokens'"):
        prove(model([node("Identity", "x", "y")]), {})
    with pytest.raises(ProofError, match="not finite"):
        prove(model([node("Add", "x c", "y")], c=f32(np.inf)), NARROW)


def test_weights_are_used_as_they_are() -> None:
    """The sum of this column's magnitudes fits; eight times its largest weight would not."""
    column = np.zeros((WIDTH, 1), np.float32)
    column[0], column[1:] = 2.0**16, 1
    check_truth(model([node("MatMul", "x c", "y")], c=column), NARROW)


def test_short_reciprocals_are_products_of_few_bits() -> None:
    """A table spans more than 24 bits of steps, but no element of it does."""
    constants = {
        "c": np.array([1 / 8, 257 / 2**20, 509 / 2**28], np.float32),
        "l": np.array(0, np.int32),
        "h": np.array(2, np.int32),
    }
    looked_up = [node("Clip", "tokens l h", "i"), node("Gather", "c i", "r")]
    bounds = {"tokens": (-2047, 2047)}
    proof = prove(model([*looked_up, node("Mul", "x r", "y")], **constants), bounds)
    assert proof.values["y"].bits == 11 + 9
    with pytest.raises(ProofError, match="sums reach"):
        prove(model([*looked_up, node("Add", "x r", "y")], **constants), bounds)


def as_integers(array: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    return np.ldexp(array.astype(np.float64), -np.asarray(exponent))


def check_value(name: str, value: Value, array: np.ndarray) -> None:
    """Check an array against its proven value: whole steps inside the interval, with no more significant bits."""
    known = constant(array)
    numbers = array.astype(np.float64)
    assert str(array.dtype) == value.dtype, name
    assert (numbers >= value.low).all(), name
    assert (numbers <= value.high).all(), name
    if value.is_float:
        steps = as_integers(array, value.exponent)
        assert np.array_equal(steps, np.rint(steps)), name
        assert known.bits <= value.bits, name


def check_truth(graph: onnx.ModelProto, bounds: dict[str, tuple[int, int]]) -> None:
    """Prove a graph, run it on extreme and random inputs, and check every tensor against its proven value."""
    proof = prove(graph, bounds)
    low, high = bounds["tokens"]
    rng = np.random.default_rng(0)
    tokens = rng.integers(low, high, (64, WIDTH), endpoint=True, dtype=np.int32)
    tokens[:16] = rng.choice([low, high], (16, WIDTH))
    for name, array in intermediates(graph, tokens).items():
        check_value(name, proof.values[name], array)


@pytest.mark.parametrize("stage", [0, 3, 5])
@pytest.mark.parametrize("precision", ["fp32", "half operands", "int8"])
def test_every_proven_value_of_a_stage_is_true(tiny_path: Path, stage: int, precision: str) -> None:
    bundle = Bundle.load(tiny_path)
    halves = precision == "half operands"
    graph = onnx.load(bundle.graph(f"stage{stage}", "fp32" if halves else precision))
    graph = half_operands(graph) if halves else graph
    proof = prove(graph, token_domain(bundle.pad))
    tokens = np.random.default_rng(stage).integers(0, bundle.pad, (2, 16, 24), endpoint=True, dtype=np.int32)
    arrays = intermediates(graph, tokens)
    assert len(arrays) > 140
    for name, array in arrays.items():
        if array.dtype != np.bool_ and array.size:
            check_value(name, proof.values[name], array)


def test_the_default_bundle_is_proven() -> None:
    """The proof equals the certificate, and a changed weight fails it."""
    bundle = Bundle.load()
    domain = token_domain(bundle.pad)
    path = bundle.graph("stage1", "int8")
    proof = prove_file(path, domain)
    stated = bundle.certificate("stage1", "int8")
    assert {key: stated[key] for key in proof.certificate(domain)} == proof.certificate(domain)
    assert {check.kind for check in proof.checks} >= {"operand", "partial sums", "products", "sums", "int8 pairs"}
    graph = onnx.load(path)
    table = next(tensor for tensor in graph.graph.initializer if "tokens.weight" in tensor.name)
    array = onnx.numpy_helper.to_array(table).copy()
    array[3, 3] = 4096.5
    table.CopyFrom(onnx.numpy_helper.from_array(array, table.name))
    with pytest.raises(ProofError):
        prove(graph, {"tokens": (0, bundle.pad + 1)})
