"""The subcommand ``uigc export``. It imports PyTorch and onnx only when it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from uigc.runtime.cli.arguments import refuse_useless, require
from uigc.runtime.cli.command import Command
from uigc.runtime.errors import InputError, UsageError

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "safetensors")


def _configure(parser: argparse.ArgumentParser) -> None:
    text = "the folder of a training run, or a bundle (by default this package's with --triton and --decoder-only)"
    parser.add_argument("checkpoint", metavar="RUN", type=Path, nargs="?", help=text)
    parser.add_argument("-o", "--output", metavar="BUNDLE", type=Path, help="the folder to write")
    text = "write a model repository for the Triton Inference Server instead (see docs/SERVERS.md)"
    parser.add_argument("--triton", metavar="REPOSITORY", type=Path, help=text)
    text = "write what decoding needs of a bundle and no more (see docs/BUNDLE.md); RUN is the bundle"
    parser.add_argument("--decoder-only", action="store_true", help=text)
    text = "take the tokenizer from another run's folder, or from the checkpoint of an f16 VQGAN"
    parser.add_argument("--tokenizer", metavar="CHECKPOINT", type=Path, help=text)
    parser.add_argument("--force", action="store_true", help="replace BUNDLE if it exists")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _run(arguments: argparse.Namespace) -> None:
    if (arguments.output is None) == (arguments.triton is None):
        raise UsageError("Either -o BUNDLE or --triton REPOSITORY is needed, and not both; give one.")
    _expect_options(arguments)
    if arguments.triton is not None:
        _write_repository(arguments)
    elif arguments.decoder_only:
        _write_decoder(arguments)
    elif arguments.checkpoint is None:
        raise UsageError("RUN is missing, the folder of a training run or a bundle; give it.")
    else:
        _export(arguments)


def _expect_options(arguments: argparse.Namespace) -> None:
    """Refuse options that would change nothing of what is written."""
    tokenizer = {"--tokenizer": arguments.tokenizer}
    if arguments.triton is not None:
        others = {"--decoder-only": arguments.decoder_only, **tokenizer, "--force": arguments.force}
        refuse_useless(others, "--triton")
    elif arguments.decoder_only:
        refuse_useless(tokenizer, "--decoder-only")


def _write_repository(arguments: argparse.Namespace) -> None:
    from uigc.export.triton import write_repository
    from uigc.runtime.bundle import Bundle

    models = write_repository(Bundle.load(arguments.checkpoint), arguments.triton)
    if not arguments.quiet:
        print(f"{arguments.triton}: {', '.join(models)}", file=sys.stderr)


def _write_decoder(arguments: argparse.Namespace) -> None:
    require("Exporting", ("onnx", "safetensors"), "export")
    from uigc.export.decoder_only import write_decoder
    from uigc.runtime.bundle import Bundle

    def log(text: str) -> None:
        if not arguments.quiet:
            print(text, file=sys.stderr)

    size = write_decoder(Bundle.load(arguments.checkpoint), arguments.output, arguments.force, log)
    log(f"{arguments.output}: {size / 1e6:.1f} MB, decodes only")


def _export(arguments: argparse.Namespace) -> None:
    require("Exporting", PACKAGES, "export")
    from uigc.export.bundle import write_bundle
    from uigc.export.modules.checkpoint import load_prior, load_tokenizer
    from uigc.export.modules.taming import load_vqgan
    from uigc.runtime.bundle import Bundle
    from uigc.runtime.bundle.manifest import MANIFEST
    from uigc.runtime.io import image
    from uigc.runtime.io.samples import SAMPLE

    def log(text: str) -> None:
        if not arguments.quiet:
            print(text, file=sys.stderr)

    run, source = arguments.checkpoint, arguments.tokenizer or arguments.checkpoint
    if run.is_file():
        raise InputError(
            f"{run} is a file, and the folder of a training run was expected; to start a run from the checkpoint of a "
            f"VQGAN: uigc import-vqgan {run} -o RUN."
        )
    sample = image.read(SAMPLE.read_bytes())
    result = write_bundle(
        load_tokenizer(source) if source.is_dir() else load_vqgan(source),
        load_prior(run),
        arguments.output,
        [sample, sample[:200, :333]],
        arguments.force,
        log,
        Bundle.load(run) if (run / MANIFEST).is_file() and source == run else None,
    )
    log(f"{result.path}: {result.megabytes:.1f} MB, prior {result.prior.hex()[:8]}")


export = Command("export trained modules to a bundle of ONNX graphs", _configure, _run)
