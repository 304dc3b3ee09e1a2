"""The host's part of a decode, which no GPU shortens: ``python -m uigc.bench.host --json FILE``.

One thread does everything, and its processor time outside of the graphs is what counts, so other work on the machine
matters little. It is taken with the graphs on the processor, which leave its caches cold, and with their outputs
replayed, as if they ran elsewhere. ``--before PYTHON`` names the interpreter of an environment with another version of
uigc: both decode in turns what they made of the same image.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from uigc.bench.peer import Peer, host
from uigc.bench.profile import sample
from uigc.bench.result import machine, write
from uigc.runtime.cli.arguments import size

SCHEMA = 3


def measure(workers: dict[str, Peer], repeats: int, warm_up: int) -> dict[str, dict[str, float]]:
    """Return medians and 95th percentiles of every worker; all of them decode in turns."""
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    for number in range(warm_up + repeats):
        for name, worker in workers.items():
            found = json.loads(worker.decode(name))
            if number >= warm_up:
                taken[name].append(found)
    return {name: _figures(each) for name, each in taken.items()}


def _figures(each: list[dict[str, float]]) -> dict[str, float]:
    found = {key: [one[f"{key}_ms"] for one in each] for key in ("host", "replayed", "graphs")}
    return {
        "host_p50_ms": round(float(np.median(found["host"])), 3),
        "host_p95_ms": round(float(np.percentile(found["host"], 95)), 3),
        "replayed_p50_ms": round(float(np.median(found["replayed"])), 3),
        "replayed_p95_ms": round(float(np.percentile(found["replayed"], 95)), 3),
        "graphs_p50_ms": round(float(np.median(found["graphs"])), 2),
    }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    width, height = arguments.size
    image, bundle = sample(width, height), [arguments.bundle] if arguments.bundle else []
    workers = {"now": host(sys.executable, image, arguments.mask, *bundle)}
    if arguments.before:
        workers["before"] = host(arguments.before, image, arguments.mask)
    try:
        found = measure(workers, arguments.repeats, arguments.warm_up)
    finally:
        for worker in workers.values():
            worker.close()
    decode = {name: {**workers[name].facts, **figures} for name, figures in found.items()}
    of = {"width": width, "height": height, "mask": arguments.mask, "repeats": arguments.repeats}
    return {"schema": SCHEMA, **machine(), **of, "decode": decode}


def main(given: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.host", description=__doc__)
    parser.add_argument("--bundle", help="bundle to use (default: the one installed with uigc)")
    parser.add_argument("--before", metavar="PYTHON", help="interpreter of an environment with another uigc")
    parser.add_argument("--size", type=size, default=(768, 512), help="WIDTHxHEIGHT (default: 768x512)")
    parser.add_argument("--mask", default="edge", help="mask of the file (default: edge)")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args(None if given is None else list(given))
    result = run(arguments)
    for name, figures in result["decode"].items():
        print(f"{name:8}" + "".join(f"{key} {value:8.2f}  " for key, value in figures.items() if key.endswith("_ms")))
    if arguments.json:
        write(arguments.json, result)


if __name__ == "__main__":
    main()
