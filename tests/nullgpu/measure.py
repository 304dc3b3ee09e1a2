"""What the CUDA provider asks of the GPU for each graph at 768x512: launches, copies, waits.

Nothing is computed, and no time is measured.

    .venv/gpu/bin/python -m tests.nullgpu.measure --json bench/results/launches.json
"""

from __future__ import annotations

import argparse
import ctypes
import json
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.nullgpu import libraries
from uigc.bench import result
from uigc.runtime.bundle import Bundle
from uigc.runtime.providers import Graph, ProviderOptions
from uigc.runtime.providers.library import import_onnxruntime
from uigc.runtime.providers.onnx_runtime import CUDA, CUDA_GRAPHS, OnnxRuntime

ROWS, COLUMNS = 32, 48  # tokens of a 768x512 image


def provider_library() -> Path:
    """The CUDA provider of the installed onnxruntime-gpu."""
    return Path(import_onnxruntime().__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"


@cache
def null_gpu() -> ctypes.CDLL:
    """Make the libraries and load them into this process."""
    with tempfile.TemporaryDirectory() as folder:  # what is loaded needs its file no more
        libraries.build(provider_library(), Path(folder))
        return libraries.load(Path(folder))


def take_log() -> list[str]:
    """What the GPU was asked for since the last call."""
    return null_gpu().null_gpu_take().decode().splitlines()


def graphs(bundle: Bundle) -> list[tuple[str, str]]:
    """Every graph in every precision in which CUDA runs it."""
    return [
        (name, precision)
        for name in bundle.manifest["graphs"]
        for precision in (CUDA.verified if name.startswith("stage") else CUDA.pixel_precisions)
        if precision in bundle.precisions(name)
    ]


def example(graph: str, patch: int = 16) -> np.ndarray:
    if graph == "encoder":
        return np.zeros((1, ROWS * patch, COLUMNS * patch, 3), np.uint8)
    return np.zeros((1, ROWS, COLUMNS), np.int32)


def counts(log: list[str]) -> dict[str, int]:
    """The log by kind: kernels (cuDNN's and cuBLAS's, too), graphs, copies by their way, waits."""
    kinds = Counter(" ".join(line.split()[:2]) if line.startswith("COPY") else line.split()[0] for line in log)
    return dict(sorted(kinds.items()))


def run(provider: OnnxRuntime, bundle: Bundle, graph: str, precision: str) -> tuple[list[str], list[str], Graph]:
    """The logs of a graph's first and third call, and the graph."""
    null_gpu()
    loaded, value = provider.load(bundle.graph(graph, precision), ProviderOptions()), example(graph)
    take_log()
    loaded(value)
    first = take_log()
    loaded(value)
    take_log()
    loaded(value)
    return first, take_log(), loaded


def measure(bundle: Bundle) -> list[dict[str, Any]]:
    """One entry for each graph and precision: a call on ``cuda``, a call on ``cuda-graphs``, and the graph captured."""
    rows = []
    for graph, precision in graphs(bundle):
        _, plain, _ = run(CUDA, bundle, graph, precision)
        first, later, captured = run(CUDA_GRAPHS, bundle, graph, precision)
        captured.close()
        inside = [line.removeprefix("captured ") for line in first if line.startswith("captured ")]
        rows.append(
            {
                "graph": graph,
                "precision": precision,
                "cuda": counts(plain),
                "cuda-graphs": counts(later),
                "captured": counts(inside),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where the result goes")
    arguments = parser.parse_args()
    rows = measure(Bundle.load())
    facts = {"note": "real onnxruntime-gpu on a GPU that computes nothing: counts only", "size": [768, 512]}
    result.write(arguments.json, {"schema": 1} | result.machine() | facts | {"graphs": rows})
    print(json.dumps({f"{row['graph']}.{row['precision']}": row["cuda"].get("KERNEL") for row in rows}))


if __name__ == "__main__":
    main()
