"""A model repository for the Triton Inference Server: ``uigc export [BUNDLE] --triton REPOSITORY``.

``uigc`` is a model of Triton's Python backend that takes a file's bytes and gives the image. The graphs are models of
the ONNX Runtime backend, for those who chain them. Triton wants a graph with external data as a folder ``model.onnx``
that holds both; the weights lie in each of them as hard links, since ONNX Runtime follows no symbolic link out of a
graph's folder. On a store without links they are copied. ``docs/SERVERS.md`` shows how the repository is served.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from uigc.runtime.bundle import Bundle, manifest
from uigc.runtime.bundle.manifest import MANIFEST, WEIGHTS
from uigc.runtime.errors import OutputError
from uigc.runtime.io import folder

MODEL = "uigc"
LARGEST_BATCH = 8
WAIT = 2000  # microseconds that a request waits for others of its size
TYPES = {"int32": "TYPE_INT32", "float32": "TYPE_FP32", "uint8": "TYPE_UINT8", "int64": "TYPE_INT64"}
PIXELS = 1 << 25  # of the largest image that is decoded, unless the configuration is changed

_CODEC = """name: "{name}"
backend: "python"
max_batch_size: 0
input [ {{ name: "file" data_type: TYPE_UINT8 dims: [ -1 ] }} ]
output [ {{ name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
parameters {{ key: "provider" value: {{ string_value: "cpu" }} }}
parameters {{ key: "threads" value: {{ string_value: "2" }} }}
parameters {{ key: "max_pixels" value: {{ string_value: "{pixels}" }} }}
"""
_GRAPH = """name: "{name}"
backend: "onnxruntime"
max_batch_size: {batch}
input [ {inputs} ]
output [ {outputs} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
dynamic_batching {{ max_queue_delay_microseconds: {wait} }}
parameters {{ key: "intra_op_thread_count" value: {{ string_value: "2" }} }}
parameters {{ key: "enable_mem_pattern" value: {{ string_value: "0" }} }}
"""


def write_repository(bundle: Bundle, out: Path) -> list[str]:
    """Write a model repository to the new folder ``out``, which appears when it is complete; return its models."""
    if out.exists():
        raise OutputError(f"{out} exists, and a repository is a new folder; give another name, or remove it.")
    with folder.complete(out, replace=False) as working:
        kept = _write_codec(bundle, working / MODEL)
        for name in bundle.manifest["graphs"]:
            _write_graph(bundle, name, kept, working / f"{MODEL}_{name}")
        bundle.check_unchanged()
    return sorted(path.name for path in out.iterdir())


def _write_codec(bundle: Bundle, folder: Path) -> Path:
    """Write the model that takes files, with the bundle beside it; return the bundle's folder."""
    version = folder / "1"
    kept = version / "bundle"
    kept.mkdir(parents=True)
    for name in _files(bundle):
        shutil.copyfile(bundle.path / name, kept / name)
    (version / "model.py").write_text(files("uigc.export").joinpath("triton_model.py").read_text(encoding="utf-8"))
    (folder / "config.pbtxt").write_text(_CODEC.format(name=MODEL, pixels=PIXELS))
    return kept


def _files(bundle: Bundle) -> Iterator[str]:
    """Yield the names of all files of a bundle: its manifest, graphs, weights and the reports on its calibration."""
    yield MANIFEST
    yield from (path.name for path in manifest.files(bundle.path, bundle.manifest))
    yield from (entry["file"] for entry in bundle.manifest.get("calibration", {}).values())


def _write_graph(bundle: Bundle, name: str, kept: Path, folder: Path) -> None:
    """Write a graph in the precision that is the fastest on most CPUs."""
    graph = bundle.manifest["graphs"][name]
    precision = "int8" if "int8" in graph["precisions"] else "fp32"
    inside = folder / "1" / "model.onnx"
    inside.mkdir(parents=True)
    _link(kept / bundle.graph(name, precision).name, inside / "model.onnx")
    _link(kept / WEIGHTS, inside / WEIGHTS)
    tensors = {kind: ", ".join(map(_tensor, graph[kind])) for kind in ("inputs", "outputs")}
    (folder / "config.pbtxt").write_text(_GRAPH.format(name=folder.name, batch=LARGEST_BATCH, wait=WAIT, **tensors))


def _tensor(tensor: dict[str, Any]) -> str:
    """Describe an input or output; the batch is Triton's own, and sizes that a graph leaves open are -1."""
    dims = ", ".join(str(size) if isinstance(size, int) else "-1" for size in tensor["shape"][1:])
    return f'{{ name: "{tensor["name"]}" data_type: {TYPES[tensor["dtype"]]} dims: [ {dims} ] }}'


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
