"""Estimate a decode on GPUs that nobody measured: ``python -m uigc.bench.estimate --page docs/ENGINES.md``.

An estimate, not a measurement. Its arithmetic, for each of the seven graphs that decode an image:

    kernels * time of a small kernel  +  2 * products / (peak * share of it)  +  bytes copied / bus  +  time of a call

Kernels are those that ONNX Runtime launches (``bench/results/launches.json``) or that plans of TensorRT hold; products
are counted in the graphs at the size of the image; peaks and buses are those of the data sheets. The rest are ranges,
from the best to the worst that is usual, and so are the results.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import onnx

from uigc.bench.latency_table import put
from uigc.bench.nodes import optimized
from uigc.runtime.bundle import Bundle
from uigc.runtime.format.bitstream import PATCH
from uigc.runtime.format.grid import grid_shape, padded_shape

LAUNCHES = Path(__file__).parent / "results" / "launches.json"
MARK = "estimate"
Range = tuple[float, float]


@dataclass(frozen=True)
class Gpu:
    """Peaks of the data sheet, without sparsity: teraflops with float32 sums, and gigabytes a second of the bus."""

    name: str
    tf32: float
    fp16: float
    bus: float


GPUS = [Gpu("H100 SXM", 494.7, 989.4, 55.0), Gpu("RTX 4090", 82.6, 165.2, 26.0)]


@dataclass(frozen=True)
class Way:
    """How graphs are run. ``kernel``: microseconds of a small one, begun from the host or within a CUDA graph;
    ``call``: microseconds of the runtime and the driver for each graph beside its kernels, with one wait."""

    name: str
    kernel: Range
    call: Range
    counts: str | None = None  # in launches.json
    plan: tuple[int, int] = (0, 0)  # kernels of a stage and of the pixel decoder, in plans of TensorRT for RTX 1.7.1

    def kernels(self, graph: str, launches: dict[str, dict[str, Any]]) -> int:
        """Return how many kernels a graph has."""
        if self.counts:
            return int(launches[graph][self.counts]["KERNEL"])
        return self.plan[0 if graph.startswith("stage") else 1]


WAYS = [
    Way("`cuda`", (2.0, 2.5), (300.0, 500.0), "cuda"),
    Way("`cuda-graphs`", (1.5, 2.2), (15.0, 40.0), "captured"),
    Way("TensorRT", (1.5, 2.5), (15.0, 40.0), None, (71, 52)),
]
SHARE = (0.4, 0.15)  # of the peak, in products as small as these


@dataclass(frozen=True)
class Work:
    """What a graph does for one image: multiplications and additions, and bytes to and from the GPU."""

    products: int
    copied: int


def products(model: onnx.ModelProto) -> int:
    """Count the multiply-accumulates of a graph whose shapes are all known."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    known = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    shapes = {value.name: [each.dim_value for each in value.type.tensor_type.shape.dim] for value in known}
    shapes |= {tensor.name: list(tensor.dims) for tensor in inferred.graph.initializer}
    total = 0
    for node in inferred.graph.node:
        if node.op_type in ("MatMul", "FusedMatMul", "Gemm"):
            total += prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
        elif node.op_type in ("Conv", "FusedConv"):
            total += prod(shapes[node.output[0]]) * prod(shapes[node.input[1]][1:])
    return total


def work(bundle: Bundle, width: int, height: int) -> dict[str, Work]:
    """Return the work of each graph that decodes an image: six stages and the pixel decoder, in float32."""
    grid = grid_shape(height, width, PATCH)
    found = {}
    for name, entry in bundle.manifest["graphs"].items():
        if name == "encoder":
            continue
        rows, columns = padded_shape(*grid, bundle.window) if name.startswith("stage") else grid
        with tempfile.TemporaryDirectory() as folder:
            path = bundle.path / entry["precisions"]["fp32"]["file"]
            model = optimized(path, (1, rows, columns), Path(folder) / "graph.onnx")
        (out,) = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
        size = 4 if out.type.tensor_type.elem_type == onnx.TensorProto.INT32 else 1
        copied = 4 * rows * columns + size * prod(each.dim_value for each in out.type.tensor_type.shape.dim)
        found[name] = Work(products(model), copied)
    return found


def milliseconds(gpu: Gpu, way: Way, works: dict[str, Work], counts: dict[str, dict[str, Any]]) -> Range:
    """Return the best and the worst estimate of all graphs of one image."""
    best = worst = 0.0
    for name, each in works.items():
        kernels = way.kernels(name, counts)
        peak = (gpu.tf32 if name.startswith("stage") else gpu.fp16) * 1e6  # operations a microsecond
        bus = each.copied / (gpu.bus * 1e3)
        times = [
            kernels * way.kernel[end] + 2 * each.products / (peak * SHARE[end]) + bus + way.call[end] for end in (0, 1)
        ]
        best, worst = best + times[0], worst + times[1]
    return best / 1e3, worst / 1e3


def kernels_of(launches: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the counts of each graph: stages in fp32 (with TF32 where the proof allows it), pixel decoder in fp16."""
    wanted = {"decoder": "fp16"}
    return {
        each["graph"]: each for each in launches["graphs"] if each["precision"] == wanted.get(each["graph"], "fp32")
    }


def table(works: dict[str, Work], counts: dict[str, dict[str, Any]]) -> str:
    """Return the table in Markdown: kernels of a decode, and milliseconds on each GPU as ranges."""
    lines = [f"| **estimated** | kernels | {' | '.join(gpu.name for gpu in GPUS)} |", "|---" * (2 + len(GPUS)) + "|"]
    for way in WAYS:
        kernels = sum(way.kernels(name, counts) for name in works)
        ranges = [milliseconds(gpu, way, works, counts) for gpu in GPUS]
        lines.append(
            f"| {way.name} | {kernels} | {' | '.join(f'{low:.1f} to {high:.1f} ms' for low, high in ranges)} |"
        )
    giga = sum(each.products for name, each in works.items() if name.startswith("stage")) / 1e9
    lines += [
        "",
        f"Products of a decode: {giga:.1f} billion in the stages, {works['decoder'].products / 1e9:.1f} billion in the "
        f"pixel decoder; copies: {sum(each.copied for each in works.values()) / 1e6:.1f} MB.",
    ]
    return "\n".join(lines)


def main(given: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.estimate", description=__doc__)
    parser.add_argument("--bundle", type=Path, help="folder of a bundle (default: the one that comes with uigc)")
    parser.add_argument("--page", type=Path, help="put the table between the marks of this page")
    arguments = parser.parse_args(None if given is None else list(given))
    launches = json.loads(LAUNCHES.read_text(encoding="utf-8"))
    made = table(work(Bundle.load(arguments.bundle), *launches["size"]), kernels_of(launches))
    print(made)
    if arguments.page:
        put(arguments.page, MARK, made)


if __name__ == "__main__":
    main()
