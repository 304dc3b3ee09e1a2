"""Rules of the operators that move, look up, and convert elements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx

from uigc.export.proof.checks import SIGNIFICANDS, NodeContext
from uigc.export.proof.values import Value, integers, interval

INT8 = (-128, 127)


def move(node: NodeContext) -> Value:
    """The elements are those of the input; the result has one interval for all, whatever their order is now."""
    value = node.input(0)
    return replace(value.collapsed(), dequantized=value.dequantized)


def identity(node: NodeContext) -> Value:
    return node.input(0)


def join(node: NodeContext) -> Value:
    values = [value.collapsed() for value in node.inputs if value is not None]
    if node.operator == "Where":
        values = values[1:]
    return interval(
        values[0].dtype,
        min(value.finest for value in values),
        min(float(value.low) for value in values),
        max(float(value.high) for value in values),
        max(value.bits for value in values),
    )


def gather(node: NodeContext) -> Value:
    """A lookup is exact if its index is an integer inside the table.

    Along an axis of varying length it only moves elements, as Slice does. The proof does not show that such an index
    lies inside: the comparison of the graph with its module does, and providers refuse an index outside.
    """
    data, index = node.input(0), node.input(1)
    axis, shape = int(node.attributes.get("axis", 0)), node.shapes[0]
    low, high = float(index.low.min()), float(index.high.max())
    if shape is not None and shape[axis] is None and low >= 0 and data.constant is None:
        return replace(data.collapsed(), dequantized=data.dequantized)
    size = node.length(0, axis)
    if low < -size or high >= size:
        raise node.refusal(
            f"its index runs from {low:.0f} to {high:.0f} and the table has {size} entries",
            "clip the index, or give the table an entry for each",
        )
    last = shape is not None and axis % len(shape) == len(shape) - 1
    # Along any other axis than the last, entries for the last axis stay right.
    return data.collapsed() if last else replace(data, constant=None, dequantized=None)


def shape(node: NodeContext) -> Value:
    return integers("int64", *node.dimensions)


def arange(node: NodeContext) -> Value:
    start, limit, delta = node.input(0), node.input(1), node.input(2)
    if start.is_float or float(delta.low.min()) <= 0:
        raise node.refusal("it is a range of floats, or a descending one", "use an ascending range of integers")
    low = float(start.low.min())
    return integers(start.dtype, low, max(low, float(limit.high.max())))


def _dtype(node: NodeContext, number: int) -> str:
    return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number)))


def cast(node: NodeContext) -> Value:
    value, dtype = node.input(0), _dtype(node, int(node.attributes["to"]))
    if dtype == "bool":
        return integers("bool", 0, 1)
    if dtype in SIGNIFICANDS:
        limit = SIGNIFICANDS[dtype]
        found = f"its input has up to {value.bits} significant bits and {dtype} holds {limit}"
        node.check_limit(f"cast to {dtype}", value.bits, limit, found, "round and clip it to fewer steps first")
        node.check_range(dtype, value.magnitude, value.exponent)
        return replace(value, dtype=dtype, constant=None, dequantized=None)
    return _to_integer(node, value, dtype)


def _to_integer(node: NodeContext, value: Value, dtype: str) -> Value:
    if not np.issubdtype(np.dtype(dtype), np.integer):
        raise node.refusal(f"it casts to {dtype}", f"cast to an integer type or to {' or '.join(SIGNIFICANDS)}")
    info = np.iinfo(np.dtype(dtype))
    if float(value.low.min()) < info.min or float(value.high.max()) > info.max:
        raise node.refusal(f"its input may leave the range of {dtype}", "clip first")
    if value.finest >= 0:
        return replace(value, dtype=dtype, constant=None, dequantized=None)
    if float(value.low.min()) < 0:
        # ONNX truncates towards 0. Kernels may shift or floor instead, which differs for negative numbers.
        raise node.refusal(f"it casts steps of 2^{value.finest}, some negative, to integers", "round first")
    return interval(dtype, np.maximum(value.exponent, 0), np.floor(value.low), np.floor(value.high))


def _scale(node: NodeContext) -> Value:
    """Return the scale of a Quantize- or DequantizeLinear: float32 powers of two, with no zero point or an int8 0."""
    scale, zero = node.input(1), node.optional_input(2)
    constant = scale.constant
    if constant is None or scale.bits > 1 or float(scale.low.min()) <= 0:
        raise node.refusal("its scale is not a constant power of two", "use a power of two")
    if scale.dtype != "float32":
        raise node.refusal(f"its scale is {scale.dtype}", "use float32, so that products are scaled in it")
    if zero is not None and (zero.constant is None or zero.dtype != "int8" or np.any(zero.constant)):
        raise node.refusal("its zero point is not an int8 0", "use int8 with zero point 0")
    return scale


def quantize(node: NodeContext) -> Value:
    """Return round_half_even(x / scale) clipped to int8; dividing by a power of two is exact."""
    value, scale = node.input(0), _scale(node)
    if node.optional_input(2) is None and "output_dtype" not in node.attributes:
        raise node.refusal("without a zero point it quantizes to uint8", "give an int8 zero point of 0")
    if scale.constant is None or scale.constant.size != 1:
        raise node.refusal("it quantizes with several scales", "use one scale")
    flat = value.collapsed()
    unit = float(scale.low.min())
    node.check_range(value.dtype, flat.magnitude / unit, flat.exponent - scale.finest)
    low, high = (float(np.clip(np.rint(bound / unit), *INT8)) for bound in (flat.low, flat.high))
    return integers("int8", low, high)


def dequantize(node: NodeContext) -> Value:
    value, scale = node.input(0), _scale(node)
    if value.dtype != "int8":
        raise node.refusal(f"its input is {value.dtype}", "use int8: TensorRT takes neither uint8 nor an int32 bias")
    if node.optional_input(2) is None and value.constant is None:
        raise node.refusal(
            "without a zero point ONNX Runtime propagates it past its readers as a QuantizeLinear to uint8",
            "give an int8 zero point of 0",
        )
    # A value has entries for the last axis only, so scales along another axis become one interval.
    shape, axis = node.shapes[0], int(node.attributes.get("axis", 1))
    many = scale.constant is not None and scale.constant.size > 1
    if many and (shape is None or axis % len(shape) != len(shape) - 1):
        scale = scale.collapsed()
    if not many:
        low, high = scale.low.reshape(()), scale.high.reshape(())
        scale = replace(scale, exponent=scale.exponent.reshape(()), low=low, high=high)
    corners = value.low * scale.low, value.low * scale.high, value.high * scale.low, value.high * scale.high
    low, high = (pick.reduce(np.broadcast_arrays(*corners)) for pick in (np.minimum, np.maximum))
    result = interval("float32", value.exponent + scale.exponent, low, high, value.bits)
    node.check_range("float32", result.magnitude, result.exponent)
    return replace(result, dequantized=(int(value.low.min()), int(value.high.max())))


MOVING = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Expand", "Split", "Flatten", "Tile")

RULES: dict[str, Callable[[NodeContext], Value]] = {
    **dict.fromkeys(MOVING, move),
    "Identity": identity, "Concat": join, "Where": join, "Gather": gather, "Shape": shape,
    "Range": arange, "Cast": cast, "QuantizeLinear": quantize, "DequantizeLinear": dequantize,
}  # fmt: skip
