"""Rules of the operators that compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from uigc.export.proof.checks import PAIR_LIMIT, SIGNIFICANDS, UNSIGNED_INT8, Step
from uigc.export.proof.values import ZERO_STEP, Numbers, Value, constant, lowest_bits, made, significant_bits

FEWER = "round and clip its inputs to fewer steps"


def _integers(step: Step, low: Numbers, high: Numbers) -> Value:
    """Integer arithmetic is exact as long as it does not overflow."""
    dtype = step.input(0).dtype
    info = np.iinfo(np.dtype(dtype))
    if float(np.min(low)) < info.min or float(np.max(high)) > info.max:
        raise step.refusal(f"it may overflow {dtype}", "use int64 or smaller dimensions")
    return made(dtype, 0, low, high)


def _corners(a: Value, b: Value, combine: Callable[[Numbers, Numbers], Numbers]) -> tuple[Numbers, Numbers]:
    corners = [combine(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return np.minimum.reduce(np.broadcast_arrays(*corners)), np.maximum.reduce(np.broadcast_arrays(*corners))


def add(step: Step) -> Value:
    a, b = step.input(0), step.input(1)
    low, high = a.low + b.low, a.high + b.high
    if not a.is_float:
        return _integers(step, low, high)
    exponent = np.minimum(a.step, b.step)
    step.fits(a.dtype, np.maximum(np.abs(low), np.abs(high)), exponent, "sums", FEWER)
    return made(a.dtype, exponent, low, high)


def subtract(step: Step) -> Value:
    b = step.input(1)
    negative = replace(b, low=-b.high, high=-b.low)
    return add(Step(step.operator, step.name, [step.input(0), negative], step.shapes, step.attributes, step.checks))


def multiply(step: Step) -> Value:
    """The significant bits of a product are at most those of its factors together; a power of two adds none."""
    a, b = step.input(0), step.input(1)
    low, high = _corners(a, b, np.multiply)
    if not a.is_float:
        return _integers(step, low, high)
    bits = a.bits + b.bits - (1 if min(a.bits, b.bits) == 1 else 0)
    value = made(a.dtype, np.minimum(a.step + b.step, ZERO_STEP), low, high, bits)
    _product(step, value)
    return value


def _product(step: Step, value: Value) -> None:
    limit = SIGNIFICANDS.get(value.dtype, 0)
    found = f"products have up to {value.bits} significant bits and {value.dtype} holds {limit}"
    step.hold("products", value.bits, limit, found, FEWER)
    step.in_range(value.dtype, value.magnitude, value.step)


def divide(step: Step) -> Value:
    a, b = step.input(0), step.input(1)
    if a.is_float:
        if b.constant is None or significant_bits(b.constant) > 1 or not np.all(b.constant):
            raise step.refusal(
                "it divides by what is no constant power of two", "multiply by a short reciprocal from a table instead"
            )
        inverse = constant((1 / b.constant.astype(np.float64)).astype(b.dtype))
        return multiply(Step(step.operator, step.name, [a, inverse], step.shapes, step.attributes, step.checks))
    if np.any(b.low <= 0) or np.any(a.low < 0):
        raise step.refusal("it divides integers that may be negative or zero", "divide a size by a positive constant")
    return _integers(step, np.floor(a.low / b.high), np.floor(a.high / b.low))


def modulo(step: Step) -> Value:
    """ONNX gives the remainder the sign of the divisor, unless ``fmod`` asks for that of the dividend.

    Where a divisor is 0, it is a size, and there is nothing to divide.
    """
    a, b = step.input(0), step.input(1)
    if a.is_float or np.any(b.low < 0):
        raise step.refusal("it is a remainder of floats or by what may be negative", "divide integers by a size")
    if step.attributes.get("fmod", 0) and np.any(a.low < 0):
        raise step.refusal("its remainders may be negative", "leave fmod out")
    least = max(float(b.high.max()) - 1, 0.0)
    return _integers(step, np.zeros(()), np.asarray(least if np.any(a.low < 0) else min(float(a.high.max()), least)))


def matmul(step: Step) -> Value:
    """Every partial sum, in any order, is bounded by the sum of the magnitudes of its terms."""
    a, b = step.input(0), step.input(1)
    step.operand(a, "first")
    step.operand(b, "second")
    _integer_kernel(step, a, b)
    if b.constant is not None and b.constant.ndim == 2:
        exponent, low, high, reach = _times_constant(a, b.constant.astype(np.float64))
    else:
        count = step.length(0, -1)
        exponent = np.minimum(a.finest + b.step, ZERO_STEP)
        reach = count * a.largest * b.magnitude
        low, high = -reach, reach
        if float(np.min(a.low)) >= 0 and float(np.min(b.low)) >= 0:
            low = np.zeros_like(reach)
    remedy = "use fewer terms or operands of fewer bits"
    if a.dtype == "float16":
        remedy += ", or cast the operands back to float32, so that sums are float32"
    step.fits(a.dtype, reach, exponent, "partial sums", remedy)
    return made(a.dtype, exponent, low, high)


def gemm(step: Step) -> Value:
    """A MatMul and an Add in one; what is added to the products shares their steps, in whichever order."""
    if float(step.attributes.get("alpha", 1.0)) != 1.0 or float(step.attributes.get("beta", 1.0)) != 1.0:
        raise step.refusal("it scales its operands", "multiply by powers of two before it")
    if step.attributes.get("transA", 0):
        raise step.refusal("its first operand is transposed", "transpose it before")
    weights, shapes = step.input(1), list(step.shapes)
    if step.attributes.get("transB", 0):
        if weights.constant is None or weights.constant.ndim != 2:
            raise step.refusal("its transposed operand is no constant matrix", "transpose it before")
        weights = replace(constant(weights.constant.T), dequantized=weights.dequantized)
        shapes[1] = weights.constant.shape if weights.constant is not None else None
    product = matmul(Step(step.operator, step.name, [step.input(0), weights], shapes[:2], {}, step.checks))
    if step.optional(2) is None:
        return product
    return add(Step(step.operator, step.name, [product, step.input(2)], [None, shapes[2]], {}, step.checks))


def _times_constant(a: Value, weight: Numbers) -> tuple[np.ndarray, Numbers, Numbers, Numbers]:
    """(step, low, high, largest partial sum) of each column of ``a @ weight``; weights are used as they are."""
    low, high = (np.broadcast_to(bound, weight.shape[:1])[:, None] for bound in (a.low, a.high))
    terms = low * weight, high * weight
    exponent = np.broadcast_to(a.step, weight.shape[:1])[:, None] + lowest_bits(weight)
    exponent = np.minimum(exponent.min(axis=0), ZERO_STEP)
    reach = (np.broadcast_to(a.magnitude, weight.shape[:1])[:, None] * np.abs(weight)).sum(axis=0)
    return exponent, np.minimum(*terms).sum(axis=0), np.maximum(*terms).sum(axis=0), reach


def _integer_kernel(step: Step, a: Value, b: Value) -> None:
    """What a provider may make of DequantizeLinear around a MatMul must be exact too."""
    if b.dequantized and not a.dequantized and b.constant is not None:
        raise step.refusal(
            "DequantizeLinear on the weight alone lets ONNX Runtime quantize the activations on the fly (MatMulNBits)",
            "quantize both operands, or none",
        )
    if a.dequantized and b.dequantized:
        largest = max(map(abs, b.dequantized))
        pairs = 2 * UNSIGNED_INT8 * largest
        found = f"two products may reach {pairs} and int8 kernels without VNNI saturate at {PAIR_LIMIT}"
        remedy = "keep weights within 7 bits, and products of two activations in float"
        step.hold("int8 pairs", float(np.log2(max(pairs, 1))), float(np.log2(PAIR_LIMIT)), found, remedy)


def reduce_sum(step: Step) -> Value:
    value, axes = step.input(0), step.optional(1)
    if axes is None or axes.constant is None or axes.constant.size == 0:
        raise step.refusal("the axes that it sums are not given as a constant", "name them")
    count = int(np.prod([step.length(0, int(axis)) for axis in np.atleast_1d(axes.constant)]))
    flat = value.collapsed()
    if not value.is_float:
        return _integers(step, flat.low * count, flat.high * count)
    step.fits(value.dtype, flat.magnitude * count, flat.step, "partial sums", "sum fewer terms, or of fewer steps")
    return made(value.dtype, flat.step, flat.low * count, flat.high * count)


def reduce_mean(step: Step) -> Value:
    """A sum times a power of two: exact if the number of terms is one, in whichever order a provider computes it."""
    total = reduce_sum(step)
    axes = np.atleast_1d(np.asarray(step.input(1).constant))
    count = int(np.prod([step.length(0, int(axis)) for axis in axes]))
    if not total.is_float or count & (count - 1):
        raise step.refusal(f"it divides by {count}", "take the mean of a power of two of floats")
    factor = constant(np.array(1 / count, total.dtype))
    return multiply(Step(step.operator, step.name, [total, factor], step.shapes, step.attributes, step.checks))


def round_(step: Step) -> Value:
    """Half to even; never needs more bits than float has, because what it rounds was held."""
    value = step.input(0)
    return made(value.dtype, np.maximum(value.step, 0), np.rint(value.low), np.rint(value.high))


def clip(step: Step) -> Value:
    value = step.input(0)
    for index, side in ((1, "low"), (2, "high")):
        bound = step.optional(index)
        if bound is None:
            continue
        if bound.constant is None or bound.constant.size != 1:
            raise step.refusal("it clips to what is no constant", "clip to constants")
        value = _clipped(value, bound, side)
    return value


def _clipped(value: Value, bound: Value, side: str) -> Value:
    limit = float(bound.low.min())
    if (side == "low" and float(value.low.min()) >= limit) or (side == "high" and float(value.high.max()) <= limit):
        return replace(value, constant=None, dequantized=None)
    pick = np.maximum if side == "low" else np.minimum
    low, high = pick(value.low, limit), pick(value.high, limit)
    return made(value.dtype, np.minimum(value.step, bound.finest), low, high, max(value.bits, bound.bits))


def relu(step: Step) -> Value:
    value = step.input(0)
    return made(value.dtype, value.step, np.maximum(value.low, 0), np.maximum(value.high, 0), value.bits)


def absolute(step: Step) -> Value:
    value = step.input(0)
    crosses = (value.low < 0) & (value.high > 0)
    low = np.where(crosses, 0, np.minimum(np.abs(value.low), np.abs(value.high)))
    return made(value.dtype, value.step, low, value.magnitude, value.bits)


def negate(step: Step) -> Value:
    value = step.input(0)
    return made(value.dtype, value.step, -value.high, -value.low, value.bits)


def extreme(step: Step) -> Value:
    pick = np.maximum if step.operator == "Max" else np.minimum
    value = step.input(0)
    for index in range(1, len(step.inputs)):
        other = step.input(index)
        low, high = pick(value.low, other.low), pick(value.high, other.high)
        value = made(value.dtype, np.minimum(value.step, other.step), low, high, max(value.bits, other.bits))
    return value


def compare(step: Step) -> Value:
    return made("bool", 0, 0, 1)


RULES: dict[str, Callable[[Step], Value]] = {
    "Add": add, "Sub": subtract, "Mul": multiply, "Div": divide, "Mod": modulo, "MatMul": matmul,
    "Gemm": gemm, "ReduceSum": reduce_sum, "ReduceMean": reduce_mean, "Round": round_, "Clip": clip, "Relu": relu,
    "Abs": absolute, "Neg": negate,
    "Max": extreme, "Min": extreme,
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or"), compare),
}  # fmt: skip
