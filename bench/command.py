"""The subcommands that the benchmarks bring to ``uigc``; nothing heavy is imported before one runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from uigc.runtime.cli.arguments import (
    add_codec_arguments,
    add_effort,
    add_mask,
    add_rate,
    count,
    refuse_useless,
    require,
)
from uigc.runtime.cli.command import Command
from uigc.runtime.errors import UsageError

_CODECS = ("uigc", "avif", "heic", "jpeg", "jxl", "webp")  # the names in codecs.py, which is too heavy for --help


def _configure_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, nargs="?", help="folder of images")
    text = "instead of measuring: compare two files of figures, BD-rate and wins of A against B"
    parser.add_argument("--compare", metavar=("A.json", "B.json"), type=Path, nargs=2, help=text)
    parser.add_argument("--codec", choices=_CODECS, default="uigc", help="codec to measure (default: uigc)")
    text = (
        "masks and qualities (q50) of uigc, qualities of another codec, such as 10, or 1/3:10 of an image scaled to a "
        "third and back, or rates of either, such as 0.02bpp; may be given several times (default: all masks, or nine "
        "qualities)"
    )
    parser.add_argument("--setting", "--mask", metavar="S", action="append", help=text)
    text = "safetensors of the networks behind LPIPS and DISTS (see docs/EVALUATION.md); without it PSNR and MS-SSIM"
    parser.add_argument("--networks", metavar="FILE", type=Path, help=text)
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file")
    add_effort(parser)
    add_codec_arguments(parser)


def _evaluate(arguments: argparse.Namespace) -> None:
    if (arguments.folder is None) == (arguments.compare is None):
        raise UsageError("One of a folder of images and --compare with two files of figures is needed; give one.")
    if arguments.compare:
        others = {"--setting": arguments.setting, "--networks": arguments.networks, "--effort": arguments.effort != 1}
        refuse_useless({"--codec": arguments.codec != "uigc", **others}, "--compare")
        require("Comparing", ("bjontegaard",), "bench")
        from uigc.bench import compare

        compare.run(arguments)
    else:
        if arguments.codec != "uigc":
            refuse_useless({"--effort": arguments.effort != 1}, f"--codec {arguments.codec}")
        require("Evaluating", ("torch", "pytorch_msssim"), "bench")
        from uigc.bench import evaluate

        evaluate.run(arguments)


evaluate = Command("measure rate and quality on a folder of images", _configure_evaluate, _evaluate)


def _configure_profile(parser: argparse.ArgumentParser) -> None:
    text = "a .uigc file, an image, or a size such as 768x512, to which the sample is scaled"
    parser.add_argument("target", metavar="FILE_OR_SIZE", help=text)
    add_mask(parser)
    parser.add_argument("--batch", metavar="N", type=count, default=1, help="images at a time (default: 1)")
    parser.add_argument("--repeats", metavar="N", type=count, default=20, help="measured repeats (default: 20)")
    text = "repeats before the measured ones (default: 3)"
    parser.add_argument("--warm-up", metavar="N", type=count, default=3, help=text)
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file")
    parser.add_argument("--trace", metavar="FILE", help="write a trace for ui.perfetto.dev or chrome://tracing")
    add_codec_arguments(parser)


def _profile(arguments: argparse.Namespace) -> None:
    from uigc.bench import profile

    profile.run(arguments)


profile = Command("profile encoding and decoding step by step", _configure_profile, _profile)


def _configure_report(parser: argparse.ArgumentParser) -> None:
    text = "files that 'uigc evaluate --json' wrote, one for each codec or setup, of one folder of images"
    parser.add_argument("figures", metavar="FIGURES", type=Path, nargs="+", help=text)
    parser.add_argument("-o", "--output", metavar="PAGE", default="report.html", help="page (default: report.html)")
    text = "folder of images to show, each beside ours and the peer at equal bytes (default: plots alone)"
    parser.add_argument("--images", metavar="DIR", type=Path, help=text)
    text = "codec beside ours (default: avif)"
    parser.add_argument("--peer", choices=_CODECS[1:], default="avif", help=text)
    text = "safetensors of the networks behind LPIPS and DISTS, to measure the images that are shown"
    parser.add_argument("--networks", metavar="FILE", type=Path, help=text)
    add_rate(parser)
    add_codec_arguments(parser)


def _report(arguments: argparse.Namespace) -> None:
    require("Reporting", ("torch", "matplotlib"), "bench")
    from uigc.bench import report

    report.run(arguments)


report = Command("make a page that shows rate, quality and images", _configure_report, _report)
