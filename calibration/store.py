"""Write the results of a calibration into a bundle so that it is valid at every moment: remove the int8 graphs that are
replaced from the manifest, write the new files, then list them."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import onnx

from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle import manifest as layout
from uigc.runtime.bundle.seal import sealed
from uigc.runtime.errors import OutputError
from uigc.runtime.io import files
from uigc.runtime.providers.library import import_onnxruntime

onnxruntime = import_onnxruntime()

NETWORKS = ("encoder", "decoder")
DATA, REPORT = "calibration.json", "calibration.md"


def check_free(bundle: Bundle, force: bool) -> None:
    """Refuse a bundle that only decodes, and one that is calibrated already."""
    bundle.expect_encoder()
    if not force and any("int8" in bundle.precisions(name) for name in NETWORKS):
        raise OutputError(f"{bundle.path} is calibrated already; give --force to calibrate it anew.")


class Store:
    """Writes into the folder of ``bundle``."""

    def __init__(self, bundle: Bundle) -> None:
        self._path, self._manifest = bundle.path, copy.deepcopy(bundle.manifest)
        forgotten = [self._manifest["graphs"][name]["precisions"].pop("int8", None) for name in NETWORKS]
        if self._manifest.pop("calibration", None) or any(forgotten):
            self._write_manifest()

    def add_graph(self, name: str, model: onnx.ModelProto) -> dict[str, Any]:
        """Write the int8 graph of ``encoder`` or ``decoder``; return its entry in the manifest."""
        entry = self._add(f"{name}.int8.onnx", model.SerializeToString())
        onnx.checker.check_model(str(self._path / entry["file"]))
        entry["nodes"] = len(model.graph.node)
        self._manifest["graphs"][name]["precisions"]["int8"] = entry
        return entry

    def finish(self, data: dict[str, Any], report: str) -> None:
        """Write data and report, and list all that was added."""
        text = json.dumps(data, indent=1) + "\n"
        self._manifest["calibration"] = {
            "data": self._add(DATA, text.encode()),
            "report": self._add(REPORT, report.encode()),
        }
        self._write_manifest()

    def _add(self, name: str, content: bytes) -> dict[str, Any]:
        path = self._path / name
        files.write(path, content, force=True)
        return layout.file_entry(path)

    def _write_manifest(self) -> None:
        files.write(self._path / layout.MANIFEST, sealed(self._manifest), force=True)


def integer_convolutions(path: Path) -> int:
    """Return how many convolutions of a graph ONNX Runtime computes in integers here, with default options."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # it warns that what it writes is for this machine only, as intended
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(written)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(written, load_external_data=False).graph.node
    return sum(node.op_type == "QLinearConv" for node in nodes)
