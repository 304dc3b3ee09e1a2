"""Precision variants of a stage's graph that mean exactly the same.

``fp32`` is what was traced. ``fp16`` casts the operands of every product to half and back, which providers with tensor
cores fuse into half-precision operands with float32 sums. ``int8`` writes explicit QuantizeLinear and DequantizeLinear
around every product with weights. Products of two activations stay in float: int8 kernels of CPUs without VNNI saturate
when both operands have 8 bits. Each variant is proven anew (:mod:`uigc.export.proof`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from uigc.export.editor import Editor
from uigc.export.int8_layout import lifted
from uigc.export.proof import Domain, Proof, prove
from uigc.export.proof.values import ZERO_STEP, lowest_bits
from uigc.export.weights import INT8_PREFIX

WEIGHT_LIMIT = 63

Array = NDArray[np.generic]


def fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Operands of every product as half, sums as float32: Cast to half, Cast to float, MatMul or Gemm."""
    editor = Editor(model)
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm"):
            node = _copy(node, [*(_through_half(editor, name) for name in node.input[:2]), *node.input[2:]])
        editor.nodes.append(node)
    return editor.finish()


def _through_half(editor: Editor, name: str) -> str:
    weight, half = editor.array(name), f"{name}.half"
    if weight is not None:
        editor.constant(half, weight.astype(np.float16))
    else:
        editor.once("Cast", [name], half, to=TensorProto.FLOAT16)
    return editor.once("Cast", [half], f"{name}.float", to=TensorProto.FLOAT)


def int8(model: onnx.ModelProto, inputs: Domain) -> onnx.ModelProto:
    """Explicit quantization of every product with weights, with scales that are float32 powers of two.

    Where an operand is int8 by proof, quantizing it is no rounding. Rounding and clipping that made it so is what
    QuantizeLinear does, and is left to it.
    """
    model = lifted(model)
    proof, editor = prove(model, inputs), Editor(model)
    for node in model.graph.node:
        if node.op_type == "MatMul" and editor.array(node.input[1]) is not None:
            node = _copy(node, (_quantized(editor, proof, node.input[0]), _quantized_weight(editor, node.input[1])))
        editor.nodes.append(node)
    return editor.finish()


def _copy(node: NodeProto, inputs: Iterable[str]) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = list(inputs)
    return copy


def _quantized(editor: Editor, proof: Proof, name: str) -> str:
    value = proof.values[name]
    scale = editor.constant(f"scale.{value.finest}", np.array(2.0**value.finest, np.float32))
    zero = editor.constant("zero.int8", np.array(0, np.int8))
    source = _before_rounding(editor, name) if value.finest == 0 else name
    editor.once("QuantizeLinear", [source, scale, zero], f"{name}.int8")
    return editor.once("DequantizeLinear", [f"{name}.int8", scale, zero], f"{name}.float")


def _before_rounding(editor: Editor, name: str) -> str:
    """What QuantizeLinear of scale 1 may take instead of ``Clip(Round(x))``: x, or its positive part."""
    clip = editor.producers[name]
    rounding = editor.producers.get(clip.input[0])
    if clip.op_type != "Clip" or rounding is None or rounding.op_type != "Round":
        return name
    low, high = (editor.array(bound) for bound in clip.input[1:3])
    if low is None or high is None or high != 127 or low not in (-128, 0):
        return name
    source = rounding.input[0]
    if low == -128:
        return source
    # Not Relu: between MatMul and QuantizeLinear it keeps ONNX Runtime 1.32 from using its int8 kernel.
    return editor.once("Max", [source, clip.input[1]], f"{source}.positive")


def _quantized_weight(editor: Editor, name: str) -> str:
    weight = editor.array(name)
    assert weight is not None
    step = lowest_bits(weight).min(axis=0)
    scales = np.ldexp(1.0, np.where(step == ZERO_STEP, 0, step)).astype(np.float32)
    integers = weight.astype(np.float32) / scales
    assert np.abs(integers).max() <= WEIGHT_LIMIT, f"{name} has more than 7 bits"
    stored = INT8_PREFIX + name.removeprefix("prior.").removesuffix(".T")
    editor.constant(stored, integers.astype(np.int8))
    editor.constant(f"{stored}.scale", scales)
    return editor.once("DequantizeLinear", [stored, f"{stored}.scale"], f"{name}.float", axis=1)


def variants(model: onnx.ModelProto, inputs: Domain) -> dict[str, onnx.ModelProto]:
    """All precisions of a traced stage."""
    return {"fp32": model, "fp16": fp16(model), "int8": int8(model, inputs)}
