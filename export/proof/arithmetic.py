"""Rules of the operators that compute.

Each rule takes a node, checks that its result is exact, and returns the result's value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from uigc.export.proof.checks import PAIR_LIMIT, SIGNIFICANDS, UNSIGNED_INT8, NodeContext
from uigc.export.proof.values import (
    ZERO_EXPONENT,
    Numbers,
    Value,
    constant,
    integers,
    interval,
    lowest_bits,
    significant_bits,
)

FEWER_STEPS = "round and clip its inputs to fewer steps"


def _integer_result(node: NodeContext, low: Numbers, high: Numbers) -> Value:
    """Return integers from ``low`` to ``high``, which are exact unless they overflow their type."""
    dtype = node.input(0).dtype
    info = np.iinfo(np.dtype(dtype))
    if float(np.min(low)) < info.min or float(np.max(high)) > info.max:
        raise node.refusal(f"it may overflow {dtype}", "use int64 or smaller dimensions")
    return integers(dtype, low, high)


def _corners(a: Value, b: Value, combine: Callable[[Numbers, Numbers], Numbers]) -> tuple[Numbers, Numbers]:
    """Return the smallest and largest result of ``combine``, which is monotonic in each argument."""
    corners = [combine(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return np.minimum.reduce(np.broadcast_arrays(*corners)), np.maximum.reduce(np.broadcast_arrays(*corners))


def add(node: NodeContext) -> Value:
    a, b = node.input(0), node.input(1)
    low, high = a.low + b.low, a.high + b.high
    if not a.is_float:
        return _integer_result(node, low, high)
    exponent, largest = np.minimum(a.exponent, b.exponent), np.maximum(np.abs(low), np.abs(high))
    if a.reach is not None or b.reach is not None:
        # A provider may make the products and this sum in one node, and add the terms of both in any order.
        largest = a.partial + b.partial
    node.check_fits(a.dtype, largest, exponent, "sums", FEWER_STEPS)
    return interval(a.dtype, exponent, low, high)


def subtract(node: NodeContext) -> Value:
    b = node.input(1)
    negative = replace(b, low=-b.high, high=-b.low)
    return add(replace(node, inputs=[node.input(0), negative]))


def multiply(node: NodeContext) -> Value:
    """A product has at most as many significant bits as its factors together; a power of two adds none."""
    a, b = node.input(0), node.input(1)
    low, high = _corners(a, b, np.multiply)
    if not a.is_float:
        return _integer_result(node, low, high)
    bits = a.bits + b.bits - (1 if min(a.bits, b.bits) == 1 else 0)
    value = interval(a.dtype, np.minimum(a.exponent + b.exponent, ZERO_EXPONENT), low, high, bits)
    _check_product(node, value)
    return value


def _check_product(node: NodeContext, value: Value) -> None:
    limit = SIGNIFICANDS.get(value.dtype, 0)
    found = f"products have up to {value.bits} significant bits and {value.dtype} holds {limit}"
    node.check_limit("products", value.bits, limit, found, FEWER_STEPS)
    node.check_range(value.dtype, value.magnitude, value.exponent)


def divide(node: NodeContext) -> Value:
    a, b = node.input(0), node.input(1)
    if a.is_float:
        if b.constant is None or significant_bits(b.constant) > 1 or not np.all(b.constant):
            raise node.refusal(
                "its divisor is not a constant power of two", "multiply by a short reciprocal from a table instead"
            )
        inverse = constant((1 / b.constant.astype(np.float64)).astype(b.dtype))
        return multiply(replace(node, inputs=[a, inverse]))
    if np.any(b.low <= 0) or np.any(a.low < 0):
        raise node.refusal("it divides integers that may be negative or zero", "divide a size by a positive constant")
    return _integer_result(node, np.floor(a.low / b.high), np.floor(a.high / b.low))


def modulo(node: NodeContext) -> Value:
    """ONNX gives the remainder the sign of the divisor, unless ``fmod`` asks for that of the dividend.

    A divisor can be 0 only where it is the size of an empty tensor, so that nothing is divided by it.
    """
    a, b = node.input(0), node.input(1)
    if a.is_float or np.any(b.low < 0):
        found = "it is a remainder of floats or by a divisor that may be negative"
        raise node.refusal(found, "divide integers by a size")
    if node.attributes.get("fmod", 0) and np.any(a.low < 0):
        raise node.refusal("its remainders may be negative", "leave fmod out")
    largest = max(float(b.high.max()) - 1, 0.0)
    if not np.any(a.low < 0):
        largest = min(float(a.high.max()), largest)
    return _integer_result(node, np.zeros(()), np.asarray(largest))


def matmul(node: NodeContext) -> Value:
    """Any partial sum, in any order, is at most the sum of the magnitudes of all terms."""
    a, b = node.input(0), node.input(1)
    node.check_operand(a, "first")
    node.check_operand(b, "second")
    _check_int8_kernel(node, a, b)
    if b.constant is not None and b.constant.ndim == 2:  # known weights: each column has its own bounds
        exponent, low, high, reach = _times_constant(a, b.constant.astype(np.float64))
    else:  # two activations: as many products of the largest operands as there are terms
        count = node.length(0, -1)
        exponent = np.minimum(a.finest + b.exponent, ZERO_EXPONENT)
        reach = count * a.largest * b.magnitude
        low, high = -reach, reach
        if float(np.min(a.low)) >= 0 and float(np.min(b.low)) >= 0:
            low = np.zeros_like(reach)
    remedy = "use fewer terms or operands of fewer bits"
    if a.dtype == "float16":
        remedy += ", or cast the operands back to float32, so that sums are float32"
    node.check_fits(a.dtype, reach, exponent, "partial sums", remedy)
    return replace(interval(a.dtype, exponent, low, high), reach=np.asarray(reach))


def gemm(node: NodeContext) -> Value:
    """A MatMul and an Add in one: the third operand shares the steps of the products, whatever the order of the sum."""
    if float(node.attributes.get("alpha", 1.0)) != 1.0 or float(node.attributes.get("beta", 1.0)) != 1.0:
        raise node.refusal("it scales its operands", "multiply by powers of two before it")
    if node.attributes.get("transA", 0):
        raise node.refusal("its first operand is transposed", "transpose it in a node of its own")
    weights, shapes = node.input(1), list(node.shapes)
    if node.attributes.get("transB", 0):
        if weights.constant is None or weights.constant.ndim != 2:
            raise node.refusal("its transposed operand is not a constant matrix", "transpose it in a node of its own")
        weights = replace(constant(weights.constant.T), dequantized=weights.dequantized)
        shapes[1] = weights.constant.shape if weights.constant is not None else None
    product = matmul(replace(node, inputs=[node.input(0), weights], shapes=shapes[:2]))
    if node.optional_input(2) is None:
        return product
    return add(replace(node, inputs=[product, node.input(2)], shapes=[None, shapes[2]]))


def _times_constant(a: Value, weight: Numbers) -> tuple[np.ndarray, Numbers, Numbers, Numbers]:
    """Return exponent, low, high and largest partial sum of each column of ``a @ weight``.

    The bounds come from the weights themselves, so they are tighter than those from the largest weight.
    """
    low, high = (np.broadcast_to(bound, weight.shape[:1])[:, None] for bound in (a.low, a.high))
    terms = low * weight, high * weight
    exponent = np.broadcast_to(a.exponent, weight.shape[:1])[:, None] + lowest_bits(weight)
    exponent = np.minimum(exponent.min(axis=0), ZERO_EXPONENT)
    reach = (np.broadcast_to(a.magnitude, weight.shape[:1])[:, None] * np.abs(weight)).sum(axis=0)
    return exponent, np.minimum(*terms).sum(axis=0), np.maximum(*terms).sum(axis=0), reach


def _check_int8_kernel(node: NodeContext, a: Value, b: Value) -> None:
    """Check the integer kernel that a provider may choose for a MatMul behind DequantizeLinear."""
    if b.dequantized and not a.dequantized and b.constant is not None:
        raise node.refusal(
            "DequantizeLinear on the weight alone lets ONNX Runtime quantize the activations on the fly (MatMulNBits)",
            "quantize both operands, or none",
        )
    if a.dequantized and b.dequantized:
        largest = max(map(abs, b.dequantized))
        pairs = 2 * UNSIGNED_INT8 * largest
        found = f"the sum of two products may reach {pairs} and int8 kernels without VNNI saturate at {PAIR_LIMIT}"
        remedy = "keep weights within 7 bits, and products of two activations in float"
        node.check_limit("int8 pairs", float(np.log2(max(pairs, 1))), float(np.log2(PAIR_LIMIT)), found, remedy)


def reduce_sum(node: NodeContext) -> Value:
    value, axes = node.input(0), node.optional_input(1)
    if axes is None or axes.constant is None or axes.constant.size == 0:
        raise node.refusal("the axes that it sums are not given as a constant", "give them as a constant")
    count = int(np.prod([node.length(0, int(axis)) for axis in np.atleast_1d(axes.constant)]))
    flat = value.collapsed()
    if not value.is_float:
        return _integer_result(node, flat.low * count, flat.high * count)
    remedy = "sum fewer terms, or terms of fewer steps"
    node.check_fits(value.dtype, flat.magnitude * count, flat.exponent, "partial sums", remedy)
    return interval(value.dtype, flat.exponent, flat.low * count, flat.high * count)


def reduce_max(node: NodeContext) -> Value:
    """The largest of some elements is one of them, whatever the axis."""
    return replace(node.input(0).collapsed(), dequantized=None, reach=None)


def reduce_mean(node: NodeContext) -> Value:
    """A sum times the reciprocal of its length: exact, in whichever order, if the length is a power of two."""
    total = reduce_sum(node)
    axes = np.atleast_1d(np.asarray(node.input(1).constant))
    count = int(np.prod([node.length(0, int(axis)) for axis in axes]))
    if not total.is_float or count & (count - 1):
        raise node.refusal(f"it divides by {count}", "take the mean of floats whose number is a power of two")
    factor = constant(np.array(1 / count, total.dtype))
    return multiply(replace(node, inputs=[total, factor]))


def round_(node: NodeContext) -> Value:
    """Round half to even: the result fits wherever the input does, because it never needs more bits."""
    value = node.input(0)
    return interval(value.dtype, np.maximum(value.exponent, 0), np.rint(value.low), np.rint(value.high))


def clip(node: NodeContext) -> Value:
    value = node.input(0)
    for index, side in ((1, "low"), (2, "high")):
        bound = node.optional_input(index)
        if bound is None:
            continue
        if bound.constant is None or bound.constant.size != 1:
            raise node.refusal("its bounds are not constants", "clip to constants")
        value = _clipped(value, bound, side)
    return value


def _clipped(value: Value, bound: Value, side: str) -> Value:
    limit = float(bound.low.min())
    if (side == "low" and float(value.low.min()) >= limit) or (side == "high" and float(value.high.max()) <= limit):
        return replace(value, constant=None, dequantized=None)
    pick = np.maximum if side == "low" else np.minimum
    low, high = pick(value.low, limit), pick(value.high, limit)
    return interval(value.dtype, np.minimum(value.exponent, bound.finest), low, high, max(value.bits, bound.bits))


def relu(node: NodeContext) -> Value:
    value = node.input(0)
    return interval(value.dtype, value.exponent, np.maximum(value.low, 0), np.maximum(value.high, 0), value.bits)


def absolute(node: NodeContext) -> Value:
    value = node.input(0)
    crosses = (value.low < 0) & (value.high > 0)
    low = np.where(crosses, 0, np.minimum(np.abs(value.low), np.abs(value.high)))
    return interval(value.dtype, value.exponent, low, value.magnitude, value.bits)


def negate(node: NodeContext) -> Value:
    value = node.input(0)
    return interval(value.dtype, value.exponent, -value.high, -value.low, value.bits)


def extreme(node: NodeContext) -> Value:
    pick = np.maximum if node.operator == "Max" else np.minimum
    value = node.input(0)
    for index in range(1, len(node.inputs)):
        other = node.input(index)
        low, high = pick(value.low, other.low), pick(value.high, other.high)
        exponent = np.minimum(value.exponent, other.exponent)
        value = interval(value.dtype, exponent, low, high, max(value.bits, other.bits))
    return value


def compare(node: NodeContext) -> Value:
    return interval("bool", 0, 0, 1)


RULES: dict[str, Callable[[NodeContext], Value]] = {
    "Add": add, "Sub": subtract, "Mul": multiply, "Div": divide, "Mod": modulo, "MatMul": matmul,
    "Gemm": gemm, "ReduceMax": reduce_max, "ReduceSum": reduce_sum, "ReduceMean": reduce_mean, "Round": round_,
    "Clip": clip, "Relu": relu, "Abs": absolute, "Neg": negate, "Max": extreme, "Min": extreme,
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or"), compare),
}  # fmt: skip
