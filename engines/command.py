"""The subcommand ``uigc build``. TensorRT is imported when it runs, not before."""

from __future__ import annotations

import argparse
from pathlib import Path

from uigc.runtime.cli.arguments import index
from uigc.runtime.cli.command import Command
from uigc.runtime.io.streams import note, show

# Those of backend.py, precision.py and profile.py, which must not be imported for --help.
_BACKENDS = ("tensorrt", "tensorrt-rtx")
_PRECISIONS = ("fp16", "int8", "mixed")


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", nargs="?", help="bundle (default: the default bundle)")
    parser.add_argument("--backend", choices=_BACKENDS, required=True, help="which TensorRT builds, and will run them")
    text = "precision; mixed (default) is fp16 for encoder and decoder, int8 for the prior (see docs/ENGINES.md)"
    parser.add_argument("--precision", choices=_PRECISIONS, default="mixed", help=text)
    text = "GPUs to build for, as sm86,sm89,sm120 (default with tensorrt-rtx; tensorrt builds for the GPU that is here)"
    parser.add_argument("--target", metavar="SM,...", default="", help=text)
    text = "size of image, a range of sizes, or a name for one: 768x512 (default), 16x16..1024x1024, hd, full-hd ...; "
    parser.add_argument("--profile", metavar="P", action="append", help=text + "may be given several times")
    parser.add_argument("--batch", metavar="N", type=int, default=1, help="most images at once (default: 1)")
    text = "encoder, stage0 ... or decoder; may be given several times (default: all)"
    parser.add_argument("--graph", metavar="NAME", action="append", default=[], help=text)
    text = "which of several GPUs builds, for tensorrt (default: 0)"
    parser.add_argument("--device", metavar="N", type=index, default=0, help=text)
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder for the engines")
    parser.add_argument("--force", action="store_true", help="build again what is there already")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _run(arguments: argparse.Namespace) -> None:
    from uigc.engines import backend, engine_set, profile
    from uigc.runtime.bundle import Bundle

    profiles = [profile.Profile.parse(text, arguments.batch) for text in arguments.profile or [profile.DEFAULT]]
    targets = tuple(name.strip().lower() for name in arguments.target.split(",") if name.strip())
    order = engine_set.Order(arguments.precision, tuple(profiles), targets, tuple(arguments.graph), arguments.device)
    found = backend.find(arguments.backend)

    def say(text: str) -> None:
        if not arguments.quiet:
            note(text)

    bundle = Bundle.load(arguments.bundle)
    made = [
        engine for engine, _ in engine_set.build_missing(bundle, found, order, arguments.output, say, arguments.force)
    ]
    if not arguments.quiet:
        show(engine_set.table(made))


build = Command("build TensorRT engines of a bundle's graphs", _configure, _run)
