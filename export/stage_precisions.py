"""Precision variants of a stage's graph; all of them compute the same bits.

``fp32`` is the traced graph. ``int8`` has explicit QuantizeLinear and DequantizeLinear around every product with
weights. Products of two activations stay in float: int8 kernels of CPUs without VNNI saturate when both operands have 8
bits. Each variant has its own proof (:mod:`uigc.export.proof`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import NodeProto

from uigc.export.editor import Editor
from uigc.export.int8_layout import to_int8_layout
from uigc.export.proof import Domain, Proof, prove
from uigc.export.proof.values import ZERO_EXPONENT, lowest_bits
from uigc.export.weights import INT8_PREFIX
from uigc.runtime.bundle.manifest import INT8_WEIGHT_MAX


def precision_variants(model: onnx.ModelProto, inputs: Domain) -> dict[str, onnx.ModelProto]:
    """Return all precisions of a traced stage."""
    return {"fp32": model, "int8": int8_products(model, inputs)}


def int8_products(model: onnx.ModelProto, inputs: Domain) -> onnx.ModelProto:
    """Quantize both operands of every product with weights; all scales are float32 powers of two.

    The proof shows that these operands are int8 already, so that quantizing them does not round. Where Round and Clip
    made them so, QuantizeLinear takes over, because it rounds and clips in the same way.
    """
    model = to_int8_layout(model)
    proof, editor = prove(model, inputs), Editor(model)
    for node in model.graph.node:
        if node.op_type == "MatMul" and editor.array(node.input[1]) is not None:
            operands = _quantize(editor, proof, node.input[0]), _quantize_weight(editor, node.input[1])
            node = _with_inputs(node, operands)
        editor.nodes.append(node)
    return editor.finish()


def _with_inputs(node: NodeProto, inputs: Iterable[str]) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = list(inputs)
    return copy


def _quantize(editor: Editor, proof: Proof, name: str) -> str:
    value = proof.values[name]
    scale = editor.constant(f"scale.{value.finest}", np.array(2.0**value.finest, np.float32))
    zero = editor.constant("zero.int8", np.array(0, np.int8))
    source = _before_rounding(editor, name) if value.finest == 0 else name
    editor.once("QuantizeLinear", [source, scale, zero], f"{name}.int8")
    return editor.once("DequantizeLinear", [f"{name}.int8", scale, zero], f"{name}.float")


def _before_rounding(editor: Editor, name: str) -> str:
    """Return what QuantizeLinear with scale 1 can read instead of ``Clip(Round(x))``: x, or its positive part."""
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


def _quantize_weight(editor: Editor, name: str) -> str:
    weight = editor.array(name)
    assert weight is not None
    # The scale of a column is the lowest bit that any of its weights has set.
    exponent = lowest_bits(weight).min(axis=0)
    scales = np.ldexp(1.0, np.where(exponent == ZERO_EXPONENT, 0, exponent)).astype(np.float32)
    integers = weight.astype(np.float32) / scales
    assert np.abs(integers).max() <= INT8_WEIGHT_MAX, f"{name} has more than 7 bits"
    stored = INT8_PREFIX + name.removeprefix("prior.").removesuffix(".T")
    editor.constant(stored, integers.astype(np.int8))
    editor.constant(f"{stored}.scale", scales)
    return editor.once("DequantizeLinear", [stored, f"{stored}.scale"], f"{name}.float", axis=1)
