"""What a stage returns: its logits, and beside them what a decoder would have to make of all of them.

A token is coded as two digits, and the weight of a high digit is a sum over all logits that share it
(``docs/FORMAT.md``, section 3). The graph does this where the logits are; a host then reads a few numbers of a token.
Weights are whole numbers in float32, and the proof shows that their sums are exact in it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from uigc.runtime.bundle.manifest import VERSION, has_sums
from uigc.runtime.format.entropy_coder import FARTHEST, TokenEntropyModel

LOGITS, PREDICTIONS = "logits", "predictions"


def with_predictions(model: onnx.ModelProto, table: NDArray[np.int32]) -> onnx.ModelProto:
    """Return a graph of a stage that ends in ``predictions`` int32 (batch, asked, codebook + high digits + 1).

    The output ``logits`` of ``model`` is int32 (batch, asked, codebook), a Cast of float32. In ``predictions``, the
    logits of a token are followed by the weights of its high digits and by the largest logit. ``table``: the weights of
    logits by their distance below the largest. With a codebook whose sums float32 does not hold, ``model`` is returned.
    """
    (output,) = model.graph.output
    batch, asked, codebook = output.type.tensor_type.shape.dim
    if not has_sums(VERSION, codebook.dim_value):
        return model
    digits = TokenEntropyModel(table, codebook.dim_value)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    nodes, logits = _without_cast(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *_ending(logits)])
    constants = {
        "axis": np.array([-1]),
        "nearest": np.array(0, np.float32),
        "farthest": np.array(FARTHEST, np.float32),
        "table": table.astype(np.float32),
        "digits": np.array([0, 0, digits.high, digits.low]),
    }
    graph.initializer.extend(numpy_helper.from_array(array, _name(name)) for name, array in constants.items())
    shape = [batch.dim_param or batch.dim_value, asked.dim_param or asked.dim_value, digits.columns]
    graph.output[0].CopyFrom(helper.make_tensor_value_info(PREDICTIONS, TensorProto.INT32, shape))
    return changed


def _without_cast(nodes: Iterable[NodeProto]) -> tuple[list[NodeProto], str]:
    """Return the nodes of a stage, which ends in a Cast, or in a Cast and a Squeeze, up to its logits in float32."""
    *others, last = nodes
    if last.op_type == "Cast":
        return others, last.input[0]
    *others, cast = others
    assert (cast.op_type, last.op_type) == ("Cast", "Squeeze")
    return [*others, _node("Squeeze", [cast.input[0], last.input[1]], LOGITS)], _name(LOGITS)


def _ending(logits: str) -> list[NodeProto]:
    """Return the nodes from ``logits`` in float32 to predictions."""
    return [
        _node("ReduceMax", [logits, _name("axis")], "largest", keepdims=1),
        _node("Sub", [_name("largest"), logits], "below"),
        _node("Clip", [_name("below"), _name("nearest"), _name("farthest")], "distance"),
        _node("Cast", [_name("distance")], "index", to=TensorProto.INT32),
        _node("Gather", [_name("table"), _name("index")], "weights"),
        _node("Reshape", [_name("weights"), _name("digits")], "by_digit"),
        _node("ReduceSum", [_name("by_digit"), _name("axis")], "sums", keepdims=0),
        _node("Concat", [logits, _name("sums"), _name("largest")], "floats", axis=-1),
        helper.make_node("Cast", [_name("floats")], [PREDICTIONS], _name("integers"), to=TensorProto.INT32),
    ]


def _name(what: str) -> str:
    return f"{PREDICTIONS}.{what}"


def _node(operator: str, inputs: list[str], output: str, **attributes: object) -> NodeProto:
    return helper.make_node(operator, inputs, [_name(output)], _name(f"{output}.{operator}"), **attributes)
