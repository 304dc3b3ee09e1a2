"""The proof by measurement: ``python -m uigc.bench.exactness --windows 1000 --images DIR --json FILE``.

The integer reference against PyTorch (float64, float32, float32 with reduced-precision products, half and bfloat16
operands) and against every provider, precision and setting. ``uigc verify`` is the part of it that needs no
PyTorch.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from uigc.bench.result import machine, write
from uigc.bench.torch_modes import MODES, computing
from uigc.export.modules.checkpoint import frozen_prior
from uigc.export.modules.prior import Prior, Stage
from uigc.runtime import providers
from uigc.runtime.bundle import Bundle
from uigc.runtime.cli.verify import image_grids
from uigc.runtime.exactness import conformance, verify
from uigc.runtime.exactness.verify import Compute, Outcome


def _loader(prior: Prior, device: str) -> Callable[[int], Compute]:
    def load(stage: int) -> Compute:
        module = Stage(prior, stage)
        return lambda value: module(torch.from_numpy(value).to(device)).cpu().numpy()

    return load


def torch_outcomes(bundle: Bundle, solved: list[conformance.Case], device: str) -> list[Outcome]:
    """Compare PyTorch in each of its modes with the reference."""
    # Modules return logits; graphs add the weights of digits to them.
    solved = [replace(case, predictions=case.predictions[..., : bundle.codebook]) for case in solved]
    outcomes = []
    for mode in MODES:
        prior = frozen_prior(bundle).to(device, mode.dtype)
        with torch.no_grad(), computing(mode):
            values, different = verify.compare(solved, _loader(prior, device))
        outcomes.append(Outcome(f"torch-{device}", mode.name, torch.get_num_threads(), "eager", values, different))
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.exactness", description=__doc__)
    parser.add_argument("--bundle", help="bundle to use (default: the one installed with uigc)")
    parser.add_argument("--windows", type=int, default=1000, help="random windows (default: 1000)")
    parser.add_argument("--images", type=Path, help="folder of images whose token grids are tried too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="PyTorch's device")
    parser.add_argument("--json", type=Path, help="write all outcomes to this file")
    arguments = parser.parse_args()
    bundle = Bundle.load(arguments.bundle)
    grids = image_grids(bundle, arguments.images)

    def solving(label: str, done: int, total: int) -> None:
        print(f"\r{label} {done}/{total}", end="\n" if done == total else "", flush=True)

    def trying(label: str, done: int, total: int) -> None:
        print(f"{label} {done + 1}/{total}", flush=True)

    solved = conformance.make_cases(bundle, arguments.windows, grids, arguments.seed, os.cpu_count() or 1, solving)
    outcomes = torch_outcomes(bundle, solved, arguments.device)
    outcomes += verify.examine_all(bundle, providers.available(), solved, trying)
    print(verify.matrix(outcomes))
    result = verify.report(bundle, outcomes, arguments.windows, len(grids))
    print(f"{result['different']} of {result['values']:,} logits and weights differ from the integer reference")
    if arguments.json:
        write(arguments.json, {**machine(), **result})
    raise SystemExit(1 if result["different"] else 0)


if __name__ == "__main__":
    main()
