"""Writing explicit quantization into a half-precision graph, in the form that every provider runs as int8.

Around each quantized convolution:

    x half -> Cast float -> Q -> DQ ┐
    W half -> Cast float -> Q -> DQ ┴ Conv float -> Q -> DQ -> Cast half -> Add bias half

* Symmetric, zero points are written out, scales are float32, one for each output channel of the weights and one for
  each activation: all that TensorRT takes. Scales in half would make TensorRT round the sums before scaling them.
* The bias is added behind, because TensorRT takes no quantized bias. ONNX Runtime fuses an integer convolution only if
  its output is quantized too and, for signed int8, only if that output has a single consumer.
* The weights are the float32 ones that all precisions share, quantized in the graph; providers fold that on loading.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from uigc.calibration.ranges import LEVELS
from uigc.export.editor import Editor


@dataclass(frozen=True)
class Scales:
    """The scales of a layer: its ``input``, its ``output`` before the bias, and its weights (output channels,)."""

    input: float
    output: float
    weights: NDArray[np.float32]


def scale(reach: float) -> float:
    """Return the scale of a tensor with that range, a float32."""
    return float(np.float32(reach / LEVELS))


def quantize(half: onnx.ModelProto, chosen: Mapping[str, Scales]) -> onnx.ModelProto:
    """Return the half-precision graph with the ``chosen`` convolutions, by the names of their nodes, in int8."""
    editor = Editor(half)
    for node in half.graph.node:
        if node.name in chosen:
            _quantized(editor, node, chosen[node.name])
        else:
            editor.nodes.append(node)
    return editor.finish()


def _quantized(editor: Editor, node: NodeProto, scales: Scales) -> None:
    name, output = node.name, node.output[0]
    exact = _stored_in_eight_bits(editor, node.input[1])
    kernel = _through_int8(editor, exact or node.input[1], f"{name}.weight", scales.weights, cast=exact is None)
    value = _through_int8(editor, node.input[0], f"{name}.input", np.float32(scales.input), cast=True)
    product = NodeProto()
    product.CopyFrom(node)
    del product.input[:]
    product.input.extend([value, kernel])
    product.output[0] = f"{name}.product"
    editor.nodes.append(product)
    result = _through_int8(editor, product.output[0], f"{name}.output", np.float32(scales.output), cast=False)
    if len(node.input) < 3:
        editor.nodes.append(helper.make_node("Cast", [result], [output], f"{name}.cast", to=TensorProto.FLOAT16))
        return
    half = editor.once("Cast", [result], f"{name}.half", to=TensorProto.FLOAT16)
    biased = helper.make_node("Add", [half, _column(editor, node.input[2])], [output], f"{name}.biased")
    editor.nodes.append(biased)


def _through_int8(editor: Editor, source: str, name: str, scales: NDArray[np.float32] | np.float32, cast: bool) -> str:
    """Quantize and dequantize a tensor, along its first axis if there are many scales."""
    if cast:
        source = editor.once("Cast", [source], f"{name}.float", to=TensorProto.FLOAT)
    array = np.asarray(scales, np.float32)
    step = editor.constant(f"{name}.scale", array)
    zero = editor.constant(f"zero.{array.size if array.ndim else 'scalar'}", np.zeros(array.shape, np.int8))
    attributes = {"axis": 0} if array.ndim else {}
    integers = editor.once("QuantizeLinear", [source, step, zero], f"{name}.int8", **attributes)
    return editor.once("DequantizeLinear", [integers, step, zero], f"{name}.dequantized", **attributes)


def _stored_in_eight_bits(editor: Editor, kernel: str) -> str | None:
    """Return the float32 tensor of which a half-precision kernel is a cast, if it is a product of integers and scales.

    Half precision holds these products exactly, so casting there and back would only take time when a graph is loaded.
    """
    cast = editor.producers.get(kernel)
    product = editor.producers.get(cast.input[0]) if cast is not None and cast.op_type == "Cast" else None
    return product.output[0] if product is not None and product.op_type == "Mul" else None


def _column(editor: Editor, bias: str) -> str:
    """Return a bias (channels,) as a tensor (1, channels, 1, 1) of the same bytes."""
    name = f"{bias}.column"
    if name not in editor.constants:
        tensor = TensorProto()
        tensor.CopyFrom(editor.constants[bias])
        tensor.name = name
        tensor.dims[:] = [1, *tensor.dims, 1, 1]
        editor.constants[name] = tensor
    return name
