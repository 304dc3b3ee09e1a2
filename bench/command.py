"""The subcommands that the benchmarks bring to ``uigc``; nothing heavy is imported before one runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from uigc.runtime.cli import Command
from uigc.runtime.commands import add_codec_arguments

_CODECS = ("uigc", "avif", "jpeg", "jxl", "webp")  # those of coders.py, which must not be imported for --help


def _configure_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of pictures")
    parser.add_argument("--codec", choices=_CODECS, default="uigc", help="whose files (default: uigc)")
    text = "masks of uigc, qualities of another codec; may be given several times (default: all masks)"
    parser.add_argument("--setting", "--mask", metavar="S", action="append", help=text)
    text = "safetensors of the networks behind LPIPS and DISTS (see docs/EVALUATION.md); without it PSNR alone"
    parser.add_argument("--networks", metavar="FILE", type=Path, help=text)
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file")
    add_codec_arguments(parser)


def _evaluate(arguments: argparse.Namespace) -> None:
    from uigc.bench import evaluate

    evaluate.run(arguments)


evaluate = Command("measure rate and quality on a folder of pictures", _configure_evaluate, _evaluate)
