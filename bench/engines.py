"""Measure how long engines take to build, and how large they are: ``python -m uigc.bench.engines --json
bench/results/engines.json``.

Builds every engine of a bundle with TensorRT for RTX, which needs no GPU for it: encoder and decoder in fp16 and all
stages in fp32, and in int8 those that the bundle has int8 graphs for.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from uigc.bench.result import machine, write
from uigc.engines import backend, engine_set
from uigc.engines.plan_census import share
from uigc.engines.precision import resolve
from uigc.engines.profile import DEFAULT, Profile
from uigc.engines.sidecar import Sidecar
from uigc.runtime.bundle import Bundle

PRECISIONS = "fp16", "int8"


def order(bundle: Bundle, precision: str, profiles: tuple[Profile, ...], targets: tuple[str, ...]) -> engine_set.Order:
    """Return the order for all engines that the bundle has graphs for in that precision."""
    graphs = [name for name in bundle.manifest["graphs"] if resolve(precision, name) in bundle.precisions(name)]
    return engine_set.Order(precision, profiles, targets, tuple(graphs))


def row(engine: Sidecar) -> dict[str, Any]:
    """Return the entry of an engine in the JSON file."""
    return {
        "engine": engine.source.graph,
        "precision": engine.source.precision,
        "megabytes": round(engine.plan_bytes / 1e6, 2),
        "build_seconds": engine.seconds,
        "products": engine.products,
        "share_int8": round(share(engine.products, "int8"), 4),
        "share_fp16": round(share(engine.products, "fp16"), 4),
        "share_tf32": round(share(engine.products, "tf32"), 4),
        "tf32_allowed": engine.options["tf32"],
        "graph_sha256": engine.source.graph_sha256,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.engines", description=__doc__)
    parser.add_argument("--bundle", help="bundle to use (default: the one installed with uigc)")
    parser.add_argument("--backend", choices=tuple(backend.FLAVOURS), default="tensorrt-rtx")
    parser.add_argument("--target", action="append", help="GPU to build for (default with tensorrt-rtx: three)")
    parser.add_argument("--profile", action="append", help=f"size of image (default: {DEFAULT})")
    parser.add_argument("-o", "--output", type=Path, help="keep the engines in this folder")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    bundle, flavour = Bundle.load(arguments.bundle), backend.find(arguments.backend)
    profiles = tuple(Profile.parse(text) for text in arguments.profile or [DEFAULT])
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.output or Path(scratch)
        engines = [
            engine
            for precision in PRECISIONS
            for engine, _ in engine_set.build_missing(
                bundle, flavour, order(bundle, precision, profiles, tuple(arguments.target or ())), folder, print, True
            )
        ]
    print(engine_set.table(engines))
    if arguments.json:
        write(
            arguments.json,
            {
                **machine(),
                "backend": f"{flavour.name} {flavour.version}",
                "targets": list(engines[0].targets),
                "profiles": [profile.text for profile in profiles],
                "prior": bundle.prior_id.hex(),
                "entries": [row(engine) for engine in engines],
            },
        )


if __name__ == "__main__":
    main()
