"""Measure the cost of exactness: ``python -m uigc.bench.cost RUN --images DIR --json FILE``.

The dyadic prior of a run against its float twin (``python -m uigc.training prior --twin``: the same size, data and
steps): bits per token on images, and time per stage on ONNX Runtime, side by side, in every precision.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uigc.bench.interleaved import time_interleaved
from uigc.bench.result import machine, write
from uigc.export.modules.checkpoint import codebook_fingerprint, load_prior, load_tokenizer
from uigc.export.modules.prior import Prior
from uigc.export.trace import Spec, trace
from uigc.runtime import providers
from uigc.runtime.bundle import Bundle
from uigc.runtime.cli.verify import image_grids
from uigc.runtime.errors import InputError
from uigc.runtime.exactness.conformance import context
from uigc.runtime.format.grid import pad_to_windows, stage_context
from uigc.runtime.providers import Graph, ProviderOptions

GRID = (32, 48)  # tokens of a 768x512 image
Loader = Callable[[int], Graph]


class _FloatStage(nn.Module):
    """A stage of the twin: float logits in nats."""

    def __init__(self, prior: Prior, stage: int) -> None:
        super().__init__()
        self.prior, self.stage = prior, stage

    def forward(self, tokens: Tensor) -> Tensor:
        return self.prior(tokens, self.stage)


def twin_spec(twin: Prior, stage: int) -> Spec:
    """Describe a stage of the twin: tokens int32 (batch, H, W) -> logits float32 (batch, asked, codebook)."""
    window = twin.config.window
    example = torch.randint(twin.config.codebook, (2, 2 * window, 3 * window), dtype=torch.int32)
    dynamic = {0: ("batch", 1), 1: ("rows", window), 2: ("columns", window)}
    return Spec(f"stage{stage}", _FloatStage(twin, stage), example, "tokens", "logits", dynamic)


def bits(bundle: Bundle, grids: list[NDArray[np.int32]], load: Loader, unit: float) -> list[float]:
    """Return bits per token of each stage, and in all, with nothing lost; logits are in ``unit`` nats."""
    schedule, totals = bundle.schedule, np.zeros((len(bundle.schedule), 2))
    for stage in range(len(schedule)):
        graph = load(stage)
        for grid in grids:
            padded = pad_to_windows(grid, bundle.window, bundle.pad)
            seen = stage_context(grid, stage, schedule, bundle.window, bundle.unknown, bundle.pad)
            logits = graph(seen[None])[0][:, : bundle.codebook].astype(np.float64) * unit
            asked = schedule.gather(padded, stage)
            real = asked != bundle.pad
            logits, asked = logits[real], asked[real]
            top = logits.max(axis=1)
            nats = top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits[np.arange(len(asked)), asked]
            totals[stage] += nats.sum() / math.log(2), len(asked)
    return [*(totals[:, 0] / totals[:, 1]), totals[:, 0].sum() / totals[:, 1].sum()]


def times(bundle: Bundle, loaders: dict[str, Loader], repeats: int) -> list[dict[str, dict[str, float]]]:
    """Return milliseconds of each stage for each loader: {"median", "p95"}; the loaders take turns."""
    grid = np.random.default_rng(0).integers(bundle.codebook, size=(1, *GRID), dtype=np.int32)
    results = []
    for stage in range(len(bundle.schedule)):
        tokens = context(bundle, grid, stage, 0)
        graphs = {name: load(stage) for name, load in loaders.items()}
        taken = time_interleaved({name: partial(graph, tokens) for name, graph in graphs.items()}, repeats)
        results.append(
            {name: {"median": round(each.median, 3), "p95": round(each.p95, 3)} for name, each in taken.items()}
        )
    return results


def _twin(run: Path, bundle: Bundle) -> Prior:
    """Load the twin of a run; raises an :class:`InputError` if it predicts other tokens than the bundle's."""
    trained = load_prior(run, twin=True)
    if trained.codebook not in (None, codebook_fingerprint(load_tokenizer(bundle.path))):
        raise InputError(
            f"The twin of {run} was trained on the tokens of another codebook than that of {bundle.path}; export the "
            "run, and give that bundle (--bundle)."
        )
    return trained.prior.eval()


def measure(run: Path, bundle: Bundle, images: Path | None, threads: list[int], repeats: int) -> dict[str, Any]:
    twin = _twin(run, bundle)
    cpu = providers.find("cpu")
    grids = image_grids(bundle, images)[1 if images else 0 :]
    with tempfile.TemporaryDirectory() as folder:
        for stage in range(len(twin.schedule)):
            onnx.save(trace(twin_spec(twin, stage)), Path(folder) / f"stage{stage}.onnx")

        def loader(precision: str, count: int) -> Loader:
            def load(stage: int) -> Graph:
                path = Path(folder) / f"stage{stage}.onnx"
                if precision != "twin":
                    path = bundle.graph(f"stage{stage}", precision)
                return cpu.load(path, ProviderOptions(count))

            return load

        names = ["twin", *bundle.precisions("stage0")]
        rates = {
            "twin": bits(bundle, grids, loader("twin", 2), 1.0),
            "dyadic": bits(bundle, grids, loader("fp32", 2), 1 / 32),
        }
        timed = {count: times(bundle, {name: loader(name, count) for name in names}, repeats) for count in threads}
    return {
        "pictures": len(grids),
        "bits_per_token": {
            name: {"all": round(values[-1], 4), "stages": [round(value, 4) for value in values[:-1]]}
            for name, values in rates.items()
        },
        "grid": list(GRID),
        "milliseconds": {f"{count} threads": stages for count, stages in timed.items()},
        "ratio_to_twin": {
            f"{count} threads": {name: _ratios(stages, name) for name in names if name != "twin"}
            for count, stages in timed.items()
        },
    }


def _ratios(stages: list[dict[str, dict[str, float]]], name: str) -> dict[str, Any]:
    """Return the median time over the twin's, for each stage and for all together."""
    each = [round(stage[name]["median"] / stage["twin"]["median"], 3) for stage in stages]
    total = sum(stage[name]["median"] for stage in stages) / sum(stage["twin"]["median"] for stage in stages)
    return {"all": round(total, 3), "stages": each}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.cost", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the run that trained both")
    parser.add_argument("--bundle", help="bundle of that run's prior instead of the default one")
    parser.add_argument("--images", type=Path, help="folder of images to count bits on (default: the sample)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    figures = measure(
        arguments.run, Bundle.load(arguments.bundle), arguments.images, arguments.threads, arguments.repeats
    )
    for name, rate in figures["bits_per_token"].items():
        print(f"{name:8}{rate['all']:.4f} bits per token; stages", *(f"{value:.3f}" for value in rate["stages"]))
    for count, ratios in figures["ratio_to_twin"].items():
        for name, ratio in ratios.items():
            print(f"{count}: {name} takes {ratio['all']:.2f} of the twin's time; stages", *ratio["stages"])
    if arguments.json:
        write(arguments.json, {**machine(), **figures})


if __name__ == "__main__":
    main()
