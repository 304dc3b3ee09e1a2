"""Write a bundle that only decodes: the stages in ``int8``, the pixel decoder, and the weights that these read.

It is for programs that download their bundle, such as the page in ``web/``. Constants that a narrower type holds are
stored in it and cast in the graph, and of masks, which repeat a few rows, each row is stored once. A runtime undoes
both when it loads the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import save

from uigc.export.editor import Array
from uigc.export.proof import prove_file, token_domain
from uigc.export.weights import refer, referred, resolve, unresolved
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle import manifest as layout
from uigc.runtime.bundle.manifest import CODEWORDS, TABLES, WEIGHTS
from uigc.runtime.bundle.safetensors import TensorFile
from uigc.runtime.bundle.seal import sealed
from uigc.runtime.errors import BundleError, OutputError
from uigc.runtime.io import folder

Log = Callable[[str], None]
SMALLEST = 1 << 10  # elements; for smaller constants a narrower type would save less than the cast costs
_NARROWER = {"int64": (np.uint8, np.int16, np.int32), "float32": (np.float16,)}
_ONNX_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


def write_decoder(bundle: Bundle, out: Path, force: bool, log: Log) -> int:
    """Write the decoder of a bundle to the folder ``out``, which appears only if it is complete; return its bytes.

    ``force``: replace a bundle at ``out``; ``log`` receives a line for each step. The prior and its id stay the same.
    """
    if out.exists() and not (force and (out / layout.MANIFEST).is_file()):
        raise OutputError(f"{out} exists; give another name, or --force if it is a bundle that may be replaced.")
    with folder.complete(out) as working:
        _Decoder(bundle, working, log).write()
        Bundle.load(working)  # the runtime checks it as it would for a user
    return sum(file.stat().st_size for file in out.iterdir())


def _chosen(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Yield graph and precision of all that a decoder needs.

    The pixel decoder comes in ``fp32``, too, which reads the same weights: graphics cards take it rather than ``int8``.
    """
    for name in layout.graph_names(bundle.schedule):
        if name == "decoder":
            yield from ((name, precision) for precision in ("int8", "fp32") if precision in bundle.precisions(name))
        elif layout.is_stage(name):
            if "int8" not in bundle.precisions(name):
                raise BundleError(f"{bundle.path.name} has no {name} in 'int8'; export it again with 'uigc export'.")
            yield name, "int8"


class _Decoder:
    """One decoder on its way into an empty folder."""

    def __init__(self, bundle: Bundle, folder: Path, log: Log) -> None:
        self.bundle, self.folder, self.log = bundle, folder, log
        self.tensors: dict[str, Array] = {name: bundle.weights.read(name) for name in (*TABLES, CODEWORDS)}

    def write(self) -> None:
        """Write graphs, weights and manifest."""
        models = {chosen: self._gather(self.bundle.graph(*chosen)) for chosen in _chosen(self.bundle)}
        path = self.folder / WEIGHTS
        path.write_bytes(save({name: np.ascontiguousarray(array) for name, array in self.tensors.items()}))
        file, weights = TensorFile(path), layout.file_entry(path)
        old = self.bundle.manifest
        graphs: dict[str, Any] = {}
        for (name, precision), model in models.items():
            resolve(model, file)
            entry = graphs.setdefault(name, {**old["graphs"][name], "precisions": {}})
            entry["precisions"][precision] = self._save(name, precision, model, weights["sha256"])
        kept = {key: value for key, value in old.items() if key not in ("calibration", "seal")}
        manifest = {**kept, "graphs": graphs, "weights": weights}
        (self.folder / layout.MANIFEST).write_bytes(sealed(manifest))

    def _gather(self, path: Path) -> onnx.ModelProto:
        """Return a graph whose weights are to be found under their names in ``tensors``."""
        model = unresolved(path, self.bundle.weights)
        casts, self.added = [], list[TensorProto]()
        for tensor, stored in referred(model):
            casts += self._take(tensor, stored)
        model.graph.initializer.extend(self.added)
        nodes = [*casts, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        return model

    def _take(self, tensor: TensorProto, stored: str) -> list[onnx.NodeProto]:
        """Take the content of an initializer over; return the node that makes its type from the stored one, if any."""
        full = self.bundle.weights.read(stored)
        if full.dtype == np.bool_ and full.size >= SMALLEST:
            return self._take_rows(tensor, stored, full)
        array = _narrowed(full)
        self._refer(tensor, stored, array)
        declared = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if array.dtype == declared:
            return []
        name, tensor.name = tensor.name, f"{tensor.name}.narrow"
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        return [helper.make_node("Cast", [tensor.name], [name], to=_ONNX_TYPES[str(declared)])]

    def _take_rows(self, tensor: TensorProto, stored: str, mask: Array) -> list[onnx.NodeProto]:
        """Take a mask over as its different rows, and the number of the row for each place."""
        rows, places = np.unique(mask.reshape(-1, mask.shape[-1]), axis=0, return_inverse=True)
        name, tensor.name = tensor.name, f"{tensor.name}.rows"
        tensor.dims[:] = rows.shape
        self._refer(tensor, f"{stored}.rows", rows)
        index = TensorProto(name=f"{name}.places", dims=mask.shape[:-1], data_location=TensorProto.EXTERNAL)
        numbers = places.reshape(mask.shape[:-1]).astype(np.min_scalar_type(len(rows)))
        index.data_type = helper.np_dtype_to_tensor_dtype(numbers.dtype)
        self._refer(index, f"{stored}.places", numbers)
        self.added.append(index)
        cast = helper.make_node("Cast", [index.name], [f"{index.name}.int64"], to=TensorProto.INT64)
        return [cast, helper.make_node("Gather", [tensor.name, f"{index.name}.int64"], [name], axis=0)]

    def _refer(self, tensor: TensorProto, stored: str, array: Array) -> None:
        self.tensors[stored] = array
        refer(tensor, stored)

    def _save(self, name: str, precision: str, model: onnx.ModelProto, weights: str) -> dict[str, Any]:
        path = self.folder / f"{name}.{precision}.onnx"
        onnx.save(model, path)
        entry = {**layout.file_entry(path), "nodes": len(model.graph.node)}
        if layout.is_stage(name):
            domain = token_domain(self.bundle.pad)
            proof = prove_file(path, domain)
            self.log(f"proved {path.name} exact: {proof.tightest.slack:.2f} bits to spare")
            entry["proof"] = {"graph": entry["sha256"], "weights": weights, **proof.certificate(domain)}
        return entry


def _narrowed(array: Array) -> Array:
    """Return a large constant in the narrowest type that holds all of its values, or as it is."""
    if array.size < SMALLEST:
        return array
    for dtype in _NARROWER.get(str(array.dtype), ()):
        with np.errstate(over="ignore"):
            narrow = array.astype(dtype)
        if np.array_equal(narrow.astype(array.dtype), array):
            return narrow
    return array
