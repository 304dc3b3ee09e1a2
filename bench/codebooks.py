"""Compare codebooks at one rate: ``python -m uigc.bench.codebooks A.json B.json --bpp 0.02``.

Reads the results of ``uigc evaluate --json`` for bundles whose codebooks have different sizes, on the same images, and
interpolates LPIPS and DISTS of each between its masks, at the rate of a file that all of them reach.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from uigc.bench import figures
from uigc.bench.result import machine, write
from uigc.runtime.errors import InputError

SCHEMA = 1
RATE = 0.02  # bits per pixel
FIGURES = ("lpips_alex", "dists", "psnr")


def at(points: list[dict[str, float]], bpp: float) -> dict[str, float] | None:
    """Return the figures at a rate, interpolated linearly between neighbouring points; None outside them."""
    points = sorted(points, key=lambda point: point["bpp"])
    rates = [point["bpp"] for point in points]
    if not rates[0] <= bpp <= rates[-1]:
        return None
    return {name: round(float(np.interp(bpp, rates, [point[name] for point in points])), 4) for name in FIGURES}


def row(evaluation: dict[str, Any], bpp: float) -> dict[str, Any]:
    """Return the row of one bundle: codebook size, bits per token, its points and its figures at ``bpp``."""
    prior = evaluation.get("prior")
    if prior is None or any(entry["means"].get(name) is None for entry in evaluation["entries"] for name in FIGURES):
        raise InputError(
            f"An evaluation lacks {'the prior' if prior is None else 'LPIPS or DISTS'}; make all of uigc, and with "
            "--networks."
        )
    return {
        "prior": prior["id"],
        "words": prior["words"],
        "bits_per_token": prior["bits_per_token"],
        "points": [{"mask": entry["setting"], **entry["means"]} for entry in evaluation["entries"]],
        "at_rate": at([entry["means"] for entry in evaluation["entries"]], bpp),
    }


def compare(evaluations: list[dict[str, Any]], bpp: float) -> dict[str, Any]:
    """Return the bundles by codebook size, and the one with the lowest LPIPS at ``bpp``."""
    sets = {json.dumps(evaluation["data_set"], sort_keys=True) for evaluation in evaluations}
    if len(sets) != 1:
        raise InputError(f"The evaluations are of different images ({', '.join(sets)}); make all of the same ones.")
    rows = sorted((row(evaluation, bpp) for evaluation in evaluations), key=lambda each: each["words"])
    reached = [each for each in rows if each["at_rate"]]
    best = min(reached, key=lambda each: each["at_rate"]["lpips_alex"]) if reached else {"words": None, "prior": None}
    found = {"best": best["words"], "best_prior": best["prior"]}
    return {"data_set": evaluations[0]["data_set"], "bpp": bpp, **found, "rows": rows}


def table(result: dict[str, Any]) -> str:
    lines = [f"{'words':>5}  {'bits/token':>10}  {'LPIPS':>6}  {'DISTS':>6}   at {result['bpp']} bpp"]
    for each in result["rows"]:
        found = each["at_rate"]
        cells = [f"{found[name]:.4f}" if found else "-" for name in FIGURES[:2]]
        mark = "  best" if each["prior"] == result["best_prior"] else ""
        lines.append(f"{each['words']:>5}  {each['bits_per_token']:>10.3f}  {cells[0]:>6}  {cells[1]:>6}{mark}")
    return "\n".join(lines)


def main(given: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.codebooks", description=__doc__)
    parser.add_argument("evaluations", nargs="+", type=Path, help="JSON files of uigc evaluate, one a bundle")
    parser.add_argument("--bpp", type=float, default=RATE, help=f"rate to compare at (default: {RATE})")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args(None if given is None else list(given))
    result = compare([figures.read(path).result for path in arguments.evaluations], arguments.bpp)
    print(table(result))
    if arguments.json:
        write(arguments.json, {"schema": SCHEMA, **machine(), **result})


if __name__ == "__main__":
    main()
