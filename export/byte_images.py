"""Bytes at both ends of the pixel networks: the encoder's graph begins with images uint8 (batch, H, W, 3), and the
decoder's ends in such images.

Between bytes and the planes of float32 that the modules work on, graphs do in the same float32 arithmetic what NumPy
would do: ``planes = bytes / 255`` and ``bytes = round(planes * 255)``, half to even. The decoder's planes are clipped
to [0, 1] already. Casts lie at the very ends, because TensorRT allows uint8 nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from uigc.runtime.format.bitstream import PATCH

IMAGE, PLANES, LEVELS = "image", "image.planes", "image.levels"
_TO_PLANES, _TO_BYTES = (0, 3, 1, 2), (0, 2, 3, 1)


def to_bytes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph of the encoder or the decoder, in any precision, with its image in bytes.

    Its input or output ``image`` is float32 (batch, 3, H, W) in [0, 1], and becomes uint8 (batch, H, W, 3).
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    for node in graph.node:
        node.input[:] = [PLANES if name == IMAGE else name for name in node.input]
        node.output[:] = [PLANES if name == IMAGE else name for name in node.output]
    graph.initializer.append(numpy_helper.from_array(np.array(255, np.float32), LEVELS))
    begins = graph.input[0].name == IMAGE
    nodes = [*_begin(), *graph.node] if begins else [*graph.node, *_end()]
    del graph.node[:]
    graph.node.extend(nodes)
    _describe(graph.input[0] if begins else graph.output[0], graph.input[0], begins)
    return changed


def _begin() -> Iterable[NodeProto]:
    yield _node("Cast", [IMAGE], f"{IMAGE}.float", to=TensorProto.FLOAT)
    yield _node("Transpose", [f"{IMAGE}.float"], f"{IMAGE}.scaled", perm=_TO_PLANES)
    yield _node("Div", [f"{IMAGE}.scaled", LEVELS], PLANES)


def _end() -> Iterable[NodeProto]:
    yield _node("Mul", [PLANES, LEVELS], f"{IMAGE}.scaled")
    yield _node("Round", [f"{IMAGE}.scaled"], f"{IMAGE}.rounded")
    yield _node("Transpose", [f"{IMAGE}.rounded"], f"{IMAGE}.float", perm=_TO_BYTES)
    yield _node("Cast", [f"{IMAGE}.float"], IMAGE, to=TensorProto.UINT8)


def _node(operator: str, inputs: list[str], output: str, **attributes: object) -> NodeProto:
    return helper.make_node(operator, inputs, [output], f"bytes.{output}", **attributes)


def _describe(image: ValueInfoProto, given: ValueInfoProto, begins: bool) -> None:
    """State type and shape of the image; those of an output follow from the shape of the ``given`` input."""
    sizes = [dimension.dim_param for dimension in given.type.tensor_type.shape.dim]
    sides = sizes[2:] if begins else [f"{PATCH}*{size}" for size in sizes[1:]]
    image.CopyFrom(helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, [sizes[0], *sides, 3]))
