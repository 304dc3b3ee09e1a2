"""The layers of a pixel network that can be quantized: its convolutions in half precision.

What the half-precision graph keeps in float32 (the cosines among which the encoder takes the largest) is left there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from uigc.runtime.bundle.manifest import INT8_WEIGHT_MAX


@dataclass(frozen=True)
class Layer:
    """A convolution: the name of its node, that of its weights, its tensors' names in the float32 graph, and the scales
    (output channels,) of its weights."""

    name: str
    weight: str
    input: str
    output: str
    bias: NDArray[np.float32] | None
    weight_scales: NDArray[np.float32]


def layers(full: onnx.ModelProto, half: onnx.ModelProto) -> list[Layer]:
    """Return the layers of a network, in order.

    ``full`` and ``half`` are its graphs in fp32 and fp16 with their weights.
    """
    traced = {node.name: node for node in full.graph.node if node.op_type == "Conv"}
    constants = {tensor.name: tensor for tensor in half.graph.initializer}
    found = []
    for node in half.graph.node:
        tensor = constants.get(node.input[1]) if node.name in traced else None
        if tensor is None or tensor.data_type != TensorProto.FLOAT16:
            continue
        kernel = numpy_helper.to_array(tensor).astype(np.float32)
        bias = numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else None
        twin = traced[node.name]
        found.append(
            Layer(
                node.name,
                tensor.name.removesuffix(".half"),
                twin.input[0],
                twin.output[0],
                None if bias is None else bias.astype(np.float32),
                weight_scales(kernel),
            )
        )
    return found


def weight_scales(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """One scale for each output channel of a kernel (output, input, height, width): no weight is clipped."""
    largest = np.abs(kernel).reshape(len(kernel), -1).max(axis=1)
    return np.where(largest > 0, largest / INT8_WEIGHT_MAX, 1).astype(np.float32)
