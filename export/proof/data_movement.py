"""Rules of the operators that move, look up, and convert."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx

from uigc.export.proof.checks import SIGNIFICANDS, Step
from uigc.export.proof.values import Value, made, whole

INT8 = (-128, 127)


def move(step: Step) -> Value:
    """The elements are those of the input; where they are, is forgotten."""
    value = step.input(0)
    return replace(value.collapsed(), dequantized=value.dequantized)


def identity(step: Step) -> Value:
    return step.input(0)


def join(step: Step) -> Value:
    values = [value.collapsed() for value in step.inputs if value is not None]
    if step.operator == "Where":
        values = values[1:]
    return made(
        values[0].dtype,
        min(value.finest for value in values),
        min(float(value.low) for value in values),
        max(float(value.high) for value in values),
        max(value.bits for value in values),
    )


def gather(step: Step) -> Value:
    """A lookup is exact if its index is an integer inside the table.

    Along an axis of varying length it moves elements, as Slice does, and where to is not the proof's matter: that the
    index lies inside shows when the graph is compared with its module, and providers refuse one that does not.
    """
    data, index = step.input(0), step.input(1)
    axis, shape = int(step.attributes.get("axis", 0)), step.shapes[0]
    low, high = float(index.low.min()), float(index.high.max())
    if shape is not None and shape[axis] is None and low >= 0 and data.constant is None:
        return replace(data.collapsed(), dequantized=data.dequantized)
    size = step.length(0, axis)
    if low < -size or high >= size:
        raise step.refusal(
            f"its index runs from {low:.0f} to {high:.0f} and the table has {size} entries",
            "clip the index, or give the table an entry for each",
        )
    last = shape is not None and axis % len(shape) == len(shape) - 1
    return data.collapsed() if last else replace(data, constant=None, dequantized=None)


def shape(step: Step) -> Value:
    return whole("int64", *step.dimensions)


def arange(step: Step) -> Value:
    start, limit, delta = step.input(0), step.input(1), step.input(2)
    if start.is_float or float(delta.low.min()) <= 0:
        raise step.refusal("it is a range of floats, or backwards", "use an ascending range of integers")
    low = float(start.low.min())
    return whole(start.dtype, low, max(low, float(limit.high.max())))


def _target(step: Step, number: int) -> str:
    return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number)))


def cast(step: Step) -> Value:
    value, dtype = step.input(0), _target(step, int(step.attributes["to"]))
    if dtype == "bool":
        return whole("bool", 0, 1)
    if dtype in SIGNIFICANDS:
        limit = SIGNIFICANDS[dtype]
        found = f"its input has up to {value.bits} significant bits and {dtype} holds {limit}"
        step.hold(f"cast to {dtype}", value.bits, limit, found, "round and clip it to fewer steps first")
        step.in_range(dtype, value.magnitude, value.step)
        return replace(value, dtype=dtype, constant=None, dequantized=None)
    return _to_integer(step, value, dtype)


def _to_integer(step: Step, value: Value, dtype: str) -> Value:
    if not np.issubdtype(np.dtype(dtype), np.integer):
        raise step.refusal(f"it casts to {dtype}", f"cast to an integer type or to {' or '.join(SIGNIFICANDS)}")
    info = np.iinfo(np.dtype(dtype))
    if float(value.low.min()) < info.min or float(value.high.max()) > info.max:
        raise step.refusal(f"its input may leave the range of {dtype}", "clip first")
    if value.finest >= 0:
        return replace(value, dtype=dtype, constant=None, dequantized=None)
    if float(value.low.min()) < 0:
        # ONNX drops the fraction, but a shift or a floor, which are as good for what is positive, go down.
        raise step.refusal(f"it casts steps of 2^{value.finest}, some negative, to integers", "round first")
    return made(dtype, np.maximum(value.step, 0), np.floor(value.low), np.floor(value.high))


def _scale(step: Step) -> Value:
    """Scale of a Q/DQ pair: float32 powers of two; the zero point must be absent or 0, and int8."""
    scale, zero = step.input(1), step.optional(2)
    constant = scale.constant
    if constant is None or scale.bits > 1 or float(scale.low.min()) <= 0:
        raise step.refusal("its scale is no constant power of two", "use a power of two")
    if scale.dtype != "float32":
        raise step.refusal(f"its scale is {scale.dtype}", "use float32, or products are scaled in half precision")
    if zero is not None and (zero.constant is None or zero.dtype != "int8" or np.any(zero.constant)):
        raise step.refusal("its zero point is not an int8 0", "use int8 with zero point 0")
    return scale


def quantize(step: Step) -> Value:
    """round_half_even(x / scale) clipped to int8; dividing by a power of two is exact."""
    value, scale = step.input(0), _scale(step)
    if step.optional(2) is None and "output_dtype" not in step.attributes:
        raise step.refusal("without a zero point it quantizes to uint8", "give an int8 zero point of 0")
    if scale.constant is None or scale.constant.size != 1:
        raise step.refusal("it quantizes with several scales", "use one scale")
    flat = value.collapsed()
    unit = float(scale.low.min())
    step.in_range(value.dtype, flat.magnitude / unit, flat.step - scale.finest)
    low, high = (float(np.clip(np.rint(bound / unit), *INT8)) for bound in (flat.low, flat.high))
    return whole("int8", low, high)


def dequantize(step: Step) -> Value:
    value, scale = step.input(0), _scale(step)
    if value.dtype != "int8":
        raise step.refusal(f"it takes {value.dtype}", "use int8: TensorRT takes no uint8, and an int32 bias not either")
    if step.optional(2) is None and value.constant is None:
        raise step.refusal(
            "without a zero point ONNX Runtime moves it over its successors as a QuantizeLinear to uint8",
            "give an int8 zero point of 0",
        )
    integers = int(value.low.min()), int(value.high.max())
    shape, axis = step.shapes[0], int(step.attributes.get("axis", 1))
    many = scale.constant is not None and scale.constant.size > 1
    if many and (shape is None or axis % len(shape) != len(shape) - 1):
        scale = scale.collapsed()
    if not many:
        scale = replace(scale, step=scale.step.reshape(()), low=scale.low.reshape(()), high=scale.high.reshape(()))
    corners = value.low * scale.low, value.low * scale.high, value.high * scale.low, value.high * scale.high
    low, high = (pick.reduce(np.broadcast_arrays(*corners)) for pick in (np.minimum, np.maximum))
    result = made("float32", value.step + scale.step, low, high, value.bits)
    step.in_range("float32", result.magnitude, result.step)
    return replace(result, dequantized=integers)


MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Expand", "Split", "Flatten", "Tile")

RULES: dict[str, Callable[[Step], Value]] = {
    **dict.fromkeys(MOVES, move),
    "Identity": identity, "Concat": join, "Where": join, "Gather": gather, "Shape": shape,
    "Range": arange, "Cast": cast, "QuantizeLinear": quantize, "DequantizeLinear": dequantize,
}  # fmt: skip
