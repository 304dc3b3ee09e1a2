"""Compare priors of several shapes: ``python -m uigc.bench.shapes RUN ... --json FILE``.

Each run holds a prior that ``python -m uigc.training prior`` trained on the same tokens. Its bits a token are those of
the run's last report; the time is that of its six stages on one image, as int8 graphs on ONNX Runtime, all runs taking
turns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from uigc.bench.interleaved import Times, time_interleaved
from uigc.bench.result import machine, write
from uigc.export.modules.checkpoint import load_prior, load_tokenizer
from uigc.export.proof import token_domain
from uigc.export.stage_precisions import precision_variants
from uigc.export.trace import is_stage, specs, trace
from uigc.runtime.cli.arguments import size
from uigc.runtime.errors import InputError
from uigc.runtime.format.bitstream import PATCH
from uigc.runtime.format.grid import grid_shape, padded_shape
from uigc.runtime.providers.library import import_onnxruntime

onnxruntime = import_onnxruntime()

SCHEMA = 1
LOG = "prior.jsonl"


def learned(run: Path) -> dict[str, float]:
    """Return the steps, seconds and held-out bits of a run from its last report."""
    try:
        last = json.loads((run / LOG).read_text(encoding="utf-8").splitlines()[-1])
        return {name: value for name, value in last.items() if name in ("step", "seconds", "order0") or "held" in name}
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"{run / LOG} holds no report of a finished run ({error}); train the prior there.") from error


class Stages:
    """The int8 graphs of a run's prior, in sessions of ``threads`` threads."""

    def __init__(self, run: Path, threads: int) -> None:
        prior = load_prior(run).prior.freeze()
        self.config, domain = prior.config, token_domain(prior.config.pad)
        self.parameters = sum(parameter.numel() for parameter in prior.parameters())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        self.sessions = []
        with tempfile.TemporaryDirectory() as folder:
            for spec in filter(is_stage, specs(load_tokenizer(run), prior)):
                path = Path(folder) / f"{spec.name}.onnx"
                onnx.save(precision_variants(trace(spec), domain)["int8"], path)
                self.sessions.append(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))

    def on(self, width: int, height: int) -> Callable[[], list[Any]]:
        """Return the work of one image: each stage once, on random tokens."""
        shape = padded_shape(*grid_shape(height, width, PATCH), self.config.window)
        tokens: NDArray[np.int32] = np.random.default_rng(0).integers(0, self.config.codebook, (1, *shape), np.int32)
        return lambda: [session.run(None, {session.get_inputs()[0].name: tokens}) for session in self.sessions]


def row(run: Path, stages: Stages, taken: Times, first: Times) -> dict[str, Any]:
    """``ratio``: how many times as long as those of the first run the stages take."""
    config = stages.config
    return {
        "run": run.name,
        "shape": {"width": config.width, "layers": config.layers, "expansion": config.expansion},
        "parameters": stages.parameters,
        **learned(run),
        "p50_ms": round(taken.median, 3),
        "p95_ms": round(taken.p95, 3),
        "ratio": round(taken.median / first.median, 3),
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["run           width  layers  expansion  parameters  steps  bits/token  time"]
    for each in rows:
        shape = each["shape"]
        lines.append(
            f"{each['run']:<12}  {shape['width']:>5}  {shape['layers']:>6}  {shape['expansion']:>9}  "
            f"{each['parameters']:>10,}  {each['step']:>5}  {each['held_out_bits_per_token']:>10.3f}  "
            f"{each['ratio']:>4.2f}"
        )
    return "\n".join(lines)


def main(given: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.shapes", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders with a trained prior")
    parser.add_argument("--size", type=size, default=(768, 512), help="of the image, as WxH (default: 768x512)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args(None if given is None else list(given))
    stages = {run: Stages(run, arguments.threads) for run in arguments.runs}
    work = {str(run): each.on(*arguments.size) for run, each in stages.items()}
    times = time_interleaved(work, arguments.repeats)
    first = times[str(arguments.runs[0])]
    rows = [row(run, each, times[str(run)], first) for run, each in stages.items()]
    print(table(rows))
    if arguments.json:
        width, height = arguments.size
        image = {"width": width, "height": height, "threads": arguments.threads}
        write(arguments.json, {"schema": SCHEMA, **machine(), "image": image, "rows": rows})


if __name__ == "__main__":
    main()
