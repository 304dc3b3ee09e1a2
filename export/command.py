"""The subcommand ``uigc export``. PyTorch and onnx are imported when it runs, not before."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from uigc.runtime.cli import Command
from uigc.runtime.errors import DependencyError

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "safetensors")


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="folder of a training run")
    parser.add_argument("-o", "--output", metavar="BUNDLE", type=Path, required=True, help="folder to write")
    parser.add_argument("--force", action="store_true", help="replace BUNDLE if it exists")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _run(arguments: argparse.Namespace) -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"Exporting needs packages that are missing ({', '.join(missing)}); run: pip install 'uigc[export]'."
        )
    from uigc.export.bundle import write_bundle
    from uigc.export.modules.checkpoint import load_prior, load_tokenizer
    from uigc.runtime import image
    from uigc.runtime.demo import SAMPLE

    def say(text: str) -> None:
        if not arguments.quiet:
            print(text, file=sys.stderr)

    picture = image.read(SAMPLE.read_bytes())
    written = write_bundle(
        load_tokenizer(arguments.checkpoint),
        load_prior(arguments.checkpoint),
        arguments.output,
        [picture, picture[:200, :333]],
        arguments.force,
        say,
    )
    say(f"{written.path}: {written.megabytes:.1f} MB, prior {written.prior.hex()[:8]}")


export = Command("export trained modules to a bundle of ONNX graphs", _configure, _run)
