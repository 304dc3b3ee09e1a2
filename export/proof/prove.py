"""Prove that a graph makes no rounding error, by abstract interpretation of its nodes.

For each tensor it derives a value as in :mod:`uigc.export.proof.values`. For each node it checks that every arithmetic
that a provider may choose (float32, float32 with TF32, float16 or bfloat16 operands, int8 kernels) holds the result,
and every partial sum in any order, exactly. Operators that round by their nature have no rule and are refused.
``docs/EXACTNESS.md`` explains the proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from uigc.export.proof import arithmetic, data_movement
from uigc.export.proof.checks import Check, NodeContext, ProofError
from uigc.export.proof.values import Value, constant, integers

VERSION = 1  # of the rules; certificates from other versions are rejected
RULES = {**arithmetic.RULES, **data_movement.RULES}
INEXACT = {
    "Exp", "Log", "Sqrt", "Erf", "Pow", "Sigmoid", "Tanh", "Softmax", "Gelu", "LayerNormalization",
    "Reciprocal", "GroupNormalization", "InstanceNormalization", "Sin", "Cos",
}  # fmt: skip
INPUT_DIMENSIONS = (1, 1 << 15)  # tokens along a side, grids in a batch: assumed, to bound the arithmetic on shapes
Domain = Mapping[str, tuple[int, int]]
"""The integers that each input of a graph may hold, as (lowest, highest)."""
_Dims = dict[str, list[int | None]]


@dataclass(frozen=True)
class Proof:
    """The result of a proof: the ``values`` of all tensors by name, and the ``checks`` that held."""

    nodes: int
    values: Mapping[str, Value]
    checks: tuple[Check, ...]

    @property
    def tightest(self) -> Check:
        return min(self.checks, key=lambda check: check.slack)

    def certificate(self, inputs: Domain) -> dict[str, Any]:
        """Return what the manifest keeps: the assumption on the inputs, and the tightest node of each kind of check."""
        kinds: dict[str, Check] = {}
        for check in self.checks:
            if check.kind not in kinds or check.slack < kinds[check.kind].slack:
                kinds[check.kind] = check
        return {
            "version": VERSION,
            "inputs": {name: list(bounds) for name, bounds in inputs.items()},
            "nodes": self.nodes,
            "checks": len(self.checks),
            "slack_bits": _floor(self.tightest.slack),
            "tightest": {
                kind: {"node": check.node, "bits": round(check.used, 2), "slack_bits": _floor(check.slack)}
                for kind, check in sorted(kinds.items())
            },
        }


def token_domain(pad: int) -> Domain:
    """Return the tokens that a stage reads: codebook indices, then the unknown token, then ``pad``, the last."""
    return {"tokens": (0, pad)}


def _floor(bits: float) -> float:
    """Round down to hundredths."""
    return float(np.floor(bits * 100) / 100)


def prove(model: onnx.ModelProto, inputs: Domain) -> Proof:
    """Derive all values and check all nodes; raises :class:`ProofError` at the first node that cannot be proven.

    ``inputs`` bounds the graph's integer inputs. The model must have its weights, as ``onnx.load`` loads them.
    """
    graph = model.graph
    dims = _dimensions(model)
    values = {tensor.name: _initial(tensor) for tensor in graph.initializer}
    for entry in graph.input:
        if entry.name in values:
            continue
        if entry.name not in inputs:
            raise ProofError(f"The input {entry.name!r} has no bounds; give the interval of its integers.")
        dtype = str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)))
        low, high = inputs[entry.name]
        values[entry.name] = integers(dtype, low, high)
    checks: list[Check] = []
    sources = {entry.name for entry in graph.input}
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    for node in graph.node:
        _apply(node, values, dims, checks, opset, sources)
    return Proof(len(graph.node), values, tuple(checks))


def _initial(tensor: onnx.TensorProto) -> Value:
    try:
        return constant(numpy_helper.to_array(tensor))
    except ValueError as error:
        raise ProofError(f"The initializer {tensor.name!r} is not proven exact: {error}; train again.") from None


def _apply(
    node: onnx.NodeProto, values: dict[str, Value], dims: _Dims, checks: list[Check], opset: int, sources: set[str]
) -> None:
    attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    inputs = [values[name] if name else None for name in node.input]
    name = node.name or node.output[0]
    context = NodeContext(node.op_type, name, inputs, [dims.get(name) for name in node.input], attributes, checks)
    if sources & set(node.input):
        context.dimensions = INPUT_DIMENSIONS
    if node.op_type == "Constant":
        (array,) = ReferenceEvaluator(node, opsets={"": opset}).run(None, {})
        values[node.output[0]], dims[node.output[0]] = constant(np.asarray(array)), list(np.shape(array))
        return
    if node.domain not in ("", "ai.onnx") or node.op_type not in RULES:
        why = "rounds" if node.op_type in INEXACT else "has no rule, so it may round"
        raise context.refusal(f"the operator {why}", f"write it with {', '.join(sorted(RULES))}")
    derived = RULES[node.op_type](context)
    folded = _folded(node, inputs, opset)
    for index, output in enumerate(name for name in node.output if name):
        value = derived
        if folded is not None:
            value = replace(constant(folded[index]), dequantized=derived.dequantized)
            dims[output] = list(folded[index].shape)
        values[output] = value


def _folded(node: onnx.NodeProto, inputs: list[Value | None], opset: int) -> list[NDArray[np.generic]] | None:
    """Return the outputs of a node if all its inputs are constant, else None."""
    arrays = {name: value.constant for name, value in zip(node.input, inputs, strict=True) if value is not None}
    if not arrays or any(array is None for array in arrays.values()):
        return None
    result: list[NDArray[np.generic]] = ReferenceEvaluator(node, opsets={"": opset}).run(None, arrays)
    return [np.asarray(array) for array in result]


def _dimensions(model: onnx.ModelProto) -> _Dims:
    """Return the shapes of all tensors as ONNX infers them, with None for a length that varies."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True, strict_mode=True).graph
    dims: _Dims = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    for entry in [*inferred.value_info, *inferred.input, *inferred.output]:
        tensor = entry.type.tensor_type
        if tensor.HasField("shape"):
            dims[entry.name] = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    return dims


def prove_file(path: Path, inputs: Domain) -> Proof:
    """Prove a graph on disk with its external weights; an error names the file."""
    try:
        return prove(onnx.load(path), inputs)
    except ProofError as error:
        raise ProofError(f"{path.name}: {error}") from None
