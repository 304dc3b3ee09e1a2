"""Share one safetensors file among all graphs: initializers become external data at their offsets in that file.

Large tensors that half precision holds exactly are stored in it and cast back in the graph, where a provider folds the
cast when it loads the graph; the largest that 8 bits hold are stored in these. Equal tensors are stored once, under
their names in the PyTorch module.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from safetensors.numpy import save

from uigc.export import eight_bits
from uigc.export.editor import Array
from uigc.export.eight_bits import SCALE_SUFFIX
from uigc.runtime.bundle.manifest import WEIGHTS
from uigc.runtime.bundle.safetensors import TensorFile

SMALLEST_EXTERNAL = 64  # elements; smaller constants stay in the graph
SMALLEST_HALF = 1 << 15  # elements; for smaller tensors half precision would save less than its casts cost
_ONNX_TYPES = {
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}
INT8_PREFIX = "int8."
"""Prefix of quantized weights. They are not among the weights that make the prior's id, which begin with ``prior.``."""
_OFFSET = "eight_bits.offset"


def compact(array: Array) -> Array:
    """Return a large float32 array as float16 if that holds it exactly, and any other array as it is."""
    if array.dtype != np.float32 or array.size < SMALLEST_HALF:
        return array
    half = array.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), array) else array


class WeightStore:
    """The tensors of the file, each content once; ``parameters`` come first, under their own names."""

    def __init__(self, parameters: Mapping[str, Array]) -> None:
        self.tensors: dict[str, Array] = {}
        self.parameters = frozenset(parameters)
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        for name, array in parameters.items():
            self._put(name, array)
            self._names.setdefault(self._key(array), name)

    @staticmethod
    def _key(array: Array) -> tuple[str, tuple[int, ...], bytes]:
        if array.dtype == np.float16 and (array.ndim == 2 or array.size >= SMALLEST_HALF):
            array = array.astype(np.float32)  # the same weights; but a second copy of a bias is cheaper than its cast
        return str(array.dtype), array.shape, np.ascontiguousarray(array).tobytes()

    def find(self, array: Array) -> tuple[str, bool] | None:
        """Return the name of the stored tensor with this content, and whether it is transposed there; or None."""
        key = self._key(array)
        if key in self._names:
            return self._names[key], False
        if array.ndim == 2 and (transposed := self._key(array.T)) in self._names:
            return self._names[transposed], True
        return None

    def add(self, name: str, array: Array) -> tuple[str, bool]:
        """Return what :meth:`find` does; if that is None, store the array under ``name`` first.

        The exporter transposes the weights of linear layers. The file keeps PyTorch's layout, so that all graphs and
        PyTorch read the same bytes.
        """
        found = self.find(array)
        if found:
            return found
        self._names[self._key(array)] = name
        self._put(name, array)
        return name, False

    def _put(self, name: str, array: Array) -> None:
        parts = eight_bits.split(array) if array.size >= eight_bits.SMALLEST else None
        if parts is None:
            self.tensors[name] = compact(np.ascontiguousarray(array))
        else:
            self.tensors[name], self.tensors[name + SCALE_SUFFIX] = parts

    def serialize(self) -> bytes:
        return save({name: np.ascontiguousarray(array) for name, array in self.tensors.items()})


def name_weights(model: onnx.ModelProto, store: WeightStore) -> None:
    """Rename initializers that are parameters to the parameters' names, with ``.T`` if transposed; keep each once."""
    names: dict[str, str] = {}
    kept: dict[str, TensorProto] = {}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        found = store.find(array) if array.size >= SMALLEST_EXTERNAL else None
        if found and found[0] in store.parameters:
            names[tensor.name] = found[0] + (".T" if found[1] else "")
            tensor.name = names[tensor.name]
        kept.setdefault(tensor.name, tensor)
    tensors = list(kept.values())
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def externalize(model: onnx.ModelProto, graph_name: str, store: WeightStore) -> None:
    """Move the initializers of ``model`` into ``store``; :func:`resolve` replaces the names that this leaves."""
    graph = model.graph
    kept: list[TensorProto] = []
    conversions: list[onnx.NodeProto] = []
    loaded: set[str] = set()
    for initializer in graph.initializer:
        array = numpy_helper.to_array(initializer)
        if array.size < SMALLEST_EXTERNAL or str(array.dtype) not in _ONNX_TYPES:
            kept.append(initializer)
            continue
        is_quantized = initializer.name.startswith(INT8_PREFIX)
        stored, transposed = store.add(initializer.name if is_quantized else f"{graph_name}.{initializer.name}", array)
        tensor = store.tensors[stored]
        # The graph reads the stored tensor itself, or makes its own from it with Cast and Transpose.
        if str(tensor.dtype) == str(array.dtype) and not transposed:
            kept.append(_external(initializer.name, stored, tensor))
            continue
        source = f"{stored}.stored"
        if source not in loaded:
            loaded.add(source)
            kept += _sources(source, stored, store)
        conversions += _convert(source, initializer.name, str(array.dtype), tensor, transposed)
    if any(node.op_type == "Sub" for node in conversions):
        kept.append(numpy_helper.from_array(np.float32(eight_bits.OFFSET), _OFFSET))
    nodes = [*conversions, *graph.node]
    del graph.initializer[:]
    del graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)


def _sources(source: str, stored: str, store: WeightStore) -> list[TensorProto]:
    """Return a stored tensor as the initializer ``source``, and its scales if it has any."""
    tensors = [_external(source, stored, store.tensors[stored])]
    if store.tensors[stored].dtype == np.uint8:
        scales = stored + SCALE_SUFFIX
        tensors.append(_external(source + SCALE_SUFFIX, scales, store.tensors[scales]))
    return tensors


def _convert(source: str, name: str, dtype: str, tensor: Array, transposed: bool) -> list[onnx.NodeProto]:
    """Return nodes that make ``name`` from the stored tensor; a provider folds them when it loads the graph."""
    steps: list[tuple[str, list[str], dict[str, object]]] = []
    current_type = str(tensor.dtype)
    if current_type == "uint8":
        steps += [("Cast", [], {"to": TensorProto.FLOAT}), ("Sub", [_OFFSET], {}), ("Mul", [source + SCALE_SUFFIX], {})]
        current_type = "float32"
    if current_type != dtype:
        steps.append(("Cast", [], {"to": _ONNX_TYPES[dtype]}))
    if transposed:
        steps.append(("Transpose", [], {"perm": [1, 0]}))
    nodes, current = [], source
    for index, (operator, others, attributes) in enumerate(steps):
        target = name if index == len(steps) - 1 else f"{name}.{operator}"
        nodes.append(onnx.helper.make_node(operator, [current, *others], [target], **attributes))
        current = target
    return nodes


def _external(name: str, stored: str, array: Array) -> TensorProto:
    tensor = TensorProto(name=name, data_type=_ONNX_TYPES[str(array.dtype)], dims=array.shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=WEIGHTS)
    tensor.external_data.add(key="stored", value=stored)
    return tensor


def refer(tensor: TensorProto, stored: str) -> None:
    """Let an initializer read what the store has under a name; :func:`resolve` says where that is."""
    del tensor.external_data[:]
    tensor.external_data.add(key="stored", value=stored)


def referred(model: onnx.ModelProto) -> list[tuple[TensorProto, str]]:
    """Return the initializers that read from the store, with the names of what they read."""
    external = [tensor for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    return [(tensor, next(each.value for each in tensor.external_data if each.key == "stored")) for tensor in external]


def unresolved(path: Path, file: TensorFile) -> onnx.ModelProto:
    """Load a graph that reads its weights from ``file``, by the names that these have there: as before
    :func:`resolve`."""
    model, names = onnx.load(path, load_external_data=False), {file.offset(name): name for name in file}
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            offset = next(entry.value for entry in tensor.external_data if entry.key == "offset")
            refer(tensor, names[int(offset)])
    return model


def resolve(model: onnx.ModelProto, file: TensorFile) -> None:
    """Replace the stored names by offsets and lengths in the written file."""
    for tensor, stored in referred(model):
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=WEIGHTS)
        tensor.external_data.add(key="offset", value=str(file.offset(stored)))
        tensor.external_data.add(key="length", value=str(file.nbytes(stored)))
