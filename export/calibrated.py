"""Keep the int8 graphs of encoder and pixel decoder when a calibrated bundle is exported again.

Their ranges were chosen on photographs, which nobody has to look for again: the graphs read the same weights as before,
which only lie elsewhere in the new file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from uigc.export.weights import referred, resolve, unresolved
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle import manifest as layout
from uigc.runtime.bundle.safetensors import TensorFile

Entries = dict[str, dict[str, Any]]


def keep(source: Bundle, out: Path, file: TensorFile) -> tuple[Entries, Entries] | None:
    """Write the calibrated graphs of ``source``, and the reports on them, to ``out``, whose weights are ``file``.

    Returns their entries in the manifest, by network and by report. If ``source`` is not calibrated, or a weight of a
    graph is another one in ``file``, nothing is written, and the result is None.
    """
    reports = source.manifest.get("calibration")
    names = [name for name in source.pixel_graphs if "int8" in source.precisions(name)]
    if reports is None or not source.has_byte_images:
        return None
    models = {name: model for name in names if (model := _moved(source, name, file)) is not None}
    if len(models) < len(names):
        return None
    graphs = {}
    for name, model in models.items():
        entry = _written(out, f"{name}.int8.onnx", model.SerializeToString())
        graphs[name] = {**entry, "nodes": len(model.graph.node)}
    return graphs, {part: _report(source, entry["file"], out, graphs) for part, entry in reports.items()}


def _moved(source: Bundle, name: str, file: TensorFile) -> onnx.ModelProto | None:
    """Return a calibrated graph that reads its weights from ``file``; None if they are not the same there."""
    weights = source.weights
    model = unresolved(source.graph(name, "int8"), weights)
    if not all(each in file and _equal(file.read(each), weights.read(each)) for _, each in referred(model)):
        return None
    resolve(model, file)
    return model


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)


def _report(source: Bundle, name: str, out: Path, graphs: Entries) -> dict[str, Any]:
    """Write a report of the calibration, in which graphs are named by their hashes."""
    text = (source.path / name).read_text(encoding="utf-8")
    if name.endswith(".json"):
        data = json.loads(text)
        for network, entry in graphs.items():
            data["graphs"][network]["graph"] = entry["sha256"]
        text = json.dumps(data, indent=1) + "\n"
    return _written(out, name, text.encode())


def _written(out: Path, name: str, content: bytes) -> dict[str, Any]:
    (out / name).write_bytes(content)
    return layout.file_entry(out / name)
