"""Count the nodes of the stages' graphs: ``python -m uigc.bench.nodes [FOLDER] --json FILE``.

Three counts: that of the file; what the basic optimizations of ONNX Runtime, which are the same for every provider,
leave if inputs may have any size; and what they leave if the size is a constant. What is left runs for every input.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import onnx

from uigc.bench.result import machine, write
from uigc.runtime.bundle import default_path
from uigc.runtime.bundle.manifest import MANIFEST
from uigc.runtime.cli.arguments import size
from uigc.runtime.format.bitstream import PATCH
from uigc.runtime.format.grid import grid_shape, padded_shape
from uigc.runtime.providers.library import import_onnxruntime

onnxruntime = import_onnxruntime()

SCHEMA = 1


def optimized(path: Path, shape: tuple[int, int, int] | None, out: Path) -> onnx.ModelProto:
    """Return a graph after ONNX Runtime's basic optimizations: for any shape, or for ``shape`` (batch, rows, columns)
    as a constant. ``out``: where ONNX Runtime may write it; weights are left out."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.optimized_model_filepath = str(out)
    if shape is not None:
        (entry,) = onnx.load(path, load_external_data=False).graph.input
        for dimension, length in zip(entry.type.tensor_type.shape.dim, shape, strict=True):
            if dimension.dim_param:
                settings.add_free_dimension_override_by_name(dimension.dim_param, length)
    onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return onnx.load(out, load_external_data=False)


def left(path: Path, shape: tuple[int, int, int] | None) -> int:
    """Count the nodes that run for every input: of any shape, or of ``shape`` (batch, rows, columns)."""
    with tempfile.TemporaryDirectory() as folder:
        return len(optimized(path, shape, Path(folder) / "optimized.onnx").graph.node)


def counted(folder: Path, shape: tuple[int, int, int]) -> list[dict[str, Any]]:
    """Count the nodes of every stage graph in a bundle's folder."""
    return [
        {
            "graph": path.stem,
            "file": len(onnx.load(path, load_external_data=False).graph.node),
            "any_size": left(path, None),
            "one_size": left(path, shape),
        }
        for path in sorted(folder.glob("stage*.onnx"))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.nodes", description=__doc__)
    parser.add_argument(
        "folder", type=Path, nargs="?", default=default_path(), help="bundle (default: the one installed)"
    )
    parser.add_argument("--size", type=size, default=(768, 512), help="WIDTHxHEIGHT (default: 768x512)")
    parser.add_argument("--json", type=Path, help="write all counts to this file")
    arguments = parser.parse_args()
    window = json.loads((arguments.folder / MANIFEST).read_text(encoding="utf-8"))["prior"]["window"]
    width, height = arguments.size
    rows, columns = padded_shape(*grid_shape(height, width, PATCH), window)
    graphs = counted(arguments.folder, (1, rows, columns))
    for entry in graphs:
        print(f"{entry['graph']:16}{entry['file']:6}{entry['any_size']:6}{entry['one_size']:6}")
    if arguments.json:
        write(arguments.json, {"schema": SCHEMA, **machine(), "size": list(arguments.size), "graphs": graphs})


if __name__ == "__main__":
    main()
