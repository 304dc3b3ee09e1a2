"""A pixel network of a bundle as calibration sees it: both of its graphs, its layers, and sessions on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from uigc.calibration.graph import Scales, quantize
from uigc.calibration.layers import THIN, layers
from uigc.calibration.ranges import Observed
from uigc.runtime.bundle import Bundle
from uigc.runtime.errors import BudgetError
from uigc.runtime.providers.library import import_onnxruntime

onnxruntime = import_onnxruntime()

Array = NDArray[Any]
Call = Callable[[Array], Array]
Step = Callable[[], None]


class Network:
    """``encoder`` or ``decoder``: ``layers`` can be quantized, ``light`` ones stay in half precision.

    Raises :class:`BudgetError` if all of them are light.
    """

    def __init__(self, bundle: Bundle, name: str, threads: int | None) -> None:
        self.name, self.path = name, bundle.graph(name, "fp16")
        self._threads = threads
        self._full, self._half = onnx.load(bundle.graph(name, "fp32")), onnx.load(self.path)
        self.layers, self.light = layers(self._full, self._half, name == "decoder")
        if not self.layers:
            raise BudgetError(
                f"All convolutions of the {name} have fewer than {THIN} channels on both sides or, in the decoder, on "
                "one, or are pointwise, so none of them can be int8; use fp16."
            )
        self.full: Call = self._call(self._full)

    def quantized(self, chosen: Mapping[str, Scales]) -> Call:
        """Return the network with the ``chosen`` layers in int8 and all others in half precision, ready to run."""
        return self._call(quantize(self._half, chosen))

    def written(self, chosen: Mapping[str, Scales]) -> onnx.ModelProto:
        """Return the graph of :meth:`quantized` that points into the bundle's weights, as the other graphs do."""
        return quantize(onnx.load(self.path, load_external_data=False), chosen)

    def observe(
        self, inputs: Sequence[Array], covered: Sequence[Array], step: Step
    ) -> dict[str, tuple[Observed, Observed]]:
        """Return the observed input and output before the bias of each layer, in float32 over all ``inputs``; no range
        will clip what it is for the ``covered`` inputs."""
        watched = onnx.ModelProto()
        watched.CopyFrom(self._full)
        tensors = list(dict.fromkeys(name for layer in self.layers for name in (layer.input, layer.output)))
        known = {entry.name for entry in watched.graph.output}
        for name in tensors:
            if name not in known:
                watched.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        session = self._session(watched)
        found = {layer.name: (Observed(), Observed()) for layer in self.layers}
        for number, value in enumerate([*inputs, *covered]):
            outputs = session.run(tensors, {session.get_inputs()[0].name: value})
            values = dict(zip(tensors, outputs, strict=True))
            for layer in self.layers:
                bias = np.float32(0) if layer.bias is None else layer.bias.reshape(1, -1, 1, 1)
                tensors_of_layer = values[layer.input], values[layer.output] - bias
                for seen, tensor in zip(found[layer.name], tensors_of_layer, strict=True):
                    (seen.add if number < len(inputs) else seen.cover)(tensor)
            step()
        return found

    def _call(self, model: onnx.ModelProto) -> Call:
        session = self._session(model)
        name = session.get_inputs()[0].name

        def run(value: Array) -> Array:
            output: Array = session.run(None, {name: value})[0]
            return output

        return run

    def _session(self, model: onnx.ModelProto) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
