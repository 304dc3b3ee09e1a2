"""The subcommand ``uigc calibrate``. PyTorch and onnx are imported when it runs, not before."""

from __future__ import annotations

import argparse
from pathlib import Path

from uigc.runtime.cli.arguments import count, require
from uigc.runtime.cli.command import Command

PACKAGES = ("torch", "onnx", "onnxruntime", "safetensors")
_METHODS = ("min-max", "percentile", "mse")  # those of ranges.py, which must not be imported for --help


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="bundle to add int8 graphs to")
    text = "folder of images or tar files, or a tar file"
    parser.add_argument("--images", metavar="DIR", type=Path, required=True, help=text)
    text = "safetensors of the networks behind LPIPS (see docs/EVALUATION.md)"
    parser.add_argument("--networks", metavar="FILE", type=Path, help=text)
    parser.add_argument("--psnr-only", action="store_true", help="measure no LPIPS, and hold no budget of it")
    text = "dB of PSNR that each network may lose to int8 (default: 0.3)"
    parser.add_argument("--psnr-loss", metavar="DB", type=float, default=0.3, help=text)
    text = "LPIPS that each network may gain by int8 (default: 0.005)"
    parser.add_argument("--lpips-gain", metavar="D", type=float, help=text)
    parser.add_argument("--method", choices=_METHODS, help="how ranges are chosen (default: at the least cost)")
    parser.add_argument("--observe", metavar="N", type=count, default=32, help="images to observe (default: 32)")
    text = "other images to measure costs on (default: 16)"
    parser.add_argument("--measure", metavar="N", type=count, default=16, help=text)
    parser.add_argument("--threads", metavar="N", type=count, help="threads for each graph (default: all cores)")
    parser.add_argument("--force", action="store_true", help="replace the int8 graphs of an earlier calibration")
    parser.add_argument("--quiet", action="store_true", help="print nothing but the report and errors")


def _run(arguments: argparse.Namespace) -> None:
    require("Calibrating", PACKAGES, "calibrate")
    from uigc.calibration import calibrate as calibration

    calibration.run(arguments)


calibrate = Command("add int8 graphs of encoder and pixel decoder to a bundle, within a budget", _configure, _run)
