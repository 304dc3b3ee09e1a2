"""The layers of a pixel network that can be quantized: its convolutions in half precision.

What the half-precision graph keeps in float32 (the cosines among which the encoder takes the largest) is left there.
Light convolutions stay in half precision: int8 saves no time there, and its rounding is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from uigc.export.editor import Editor
from uigc.runtime.bundle.manifest import INT8_WEIGHT_MAX

THIN = 64  # channels that enter and leave; where there are fewer, the work is rearranging positions, not multiplying


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


def layers(full: onnx.ModelProto, half: onnx.ModelProto, paints: bool) -> tuple[list[Layer], list[Layer]]:
    """Return the layers of a network that can be int8, in order, and the light ones, which stay in half precision.

    ``full`` and ``half`` are its graphs in fp32 and fp16 with their weights; ``paints``: whether it is the decoder.
    """
    traced = {node.name: node for node in full.graph.node if node.op_type == "Conv"}
    editor = Editor(half)
    found: list[Layer] = []
    spared: list[Layer] = []
    for node in half.graph.node:
        weights = editor.constant_value(node.input[1]) if node.name in traced else None
        if weights is None or weights.dtype != np.float16:
            continue
        kernel = weights.astype(np.float32)
        bias = editor.array(node.input[2]) if len(node.input) > 2 else None
        twin = traced[node.name]
        (spared if light(weights.shape, paints) else found).append(
            Layer(
                node.name,
                node.input[1].removesuffix(".half"),
                twin.input[0],
                twin.output[0],
                None if bias is None else bias.astype(np.float32),
                weight_scales(kernel),
            )
        )
    return found, spared


def light(shape: tuple[int, ...], paints: bool) -> bool:
    """Whether a kernel (output, input, height, width) multiplies little: between few channels or, in the decoder, from
    codewords, to pixels, or pointwise. There rounding shows: it differs between the pixels of a token."""
    return max(shape[:2]) < THIN or (paints and (min(shape[:2]) < THIN or shape[2:] == (1, 1)))


def weight_scales(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """One scale for each output channel of a kernel (output, input, height, width): no weight is clipped."""
    largest = np.abs(kernel).reshape(len(kernel), -1).max(axis=1)
    return np.where(largest > 0, largest / INT8_WEIGHT_MAX, 1).astype(np.float32)
