"""The subcommand ``uigc import-vqgan``. PyTorch is imported when it runs, not before."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from uigc.runtime.cli.arguments import count
from uigc.runtime.cli.command import Command
from uigc.runtime.errors import InputError, OutputError, UsageError

if TYPE_CHECKING:
    from uigc.export.modules.vqgan import VQGAN


def _configure(parser: argparse.ArgumentParser) -> None:
    text = ".ckpt, .pth or .safetensors of an f16 VQGAN in the layout of taming-transformers"
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help=text)
    parser.add_argument("-o", "--output", metavar="RUN", type=Path, required=True, help="folder of the run to begin")
    parser.add_argument("--codebook", metavar="K", type=int, help="reduce the codebook to K codewords; needs --images")
    text = "folder of images or tar files, or a tar file, on which the use of codewords is counted"
    parser.add_argument("--images", metavar="IMAGES", type=Path, help=text)
    parser.add_argument("--photo-limit", metavar="N", type=count, help="count on at most N photographs")
    parser.add_argument("--device", help="where the photographs are encoded (default: a GPU if there is one)")
    parser.add_argument("--force", action="store_true", help="replace the tokenizer of RUN if it has one")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _run(arguments: argparse.Namespace) -> None:
    from uigc.export.modules.checkpoint import TOKENIZER, save_tokenizer
    from uigc.export.modules.taming import describe, load_vqgan

    _check(arguments)
    target = arguments.output / TOKENIZER
    if target.exists() and not arguments.force:
        raise OutputError(f"{target} exists; give --force to replace it, or another folder.")
    vqgan = load_vqgan(arguments.checkpoint)
    _log(arguments, f"{arguments.checkpoint}: {describe(vqgan.config)}")
    vqgan = _with_fewer_codewords(vqgan, arguments) if arguments.codebook else _unreduced(vqgan, arguments.checkpoint)
    arguments.output.mkdir(parents=True, exist_ok=True)
    save_tokenizer(arguments.output, vqgan.state_dict(), vqgan.config)
    _log(
        arguments,
        f"{target}: {vqgan.config.codebook} codewords; train a prior on it with: python -m uigc.training prior",
    )


def _check(arguments: argparse.Namespace) -> None:
    from uigc.runtime.bundle.manifest import is_codebook_size

    if arguments.codebook is not None and not is_codebook_size(arguments.codebook):
        raise UsageError(
            f"--codebook is {arguments.codebook}, and a power of two from 4 to 4096 is needed; give another."
        )
    if arguments.codebook is not None and arguments.images is None:
        raise UsageError("--codebook needs --images, on which the use of codewords is counted; give a folder of them.")
    if arguments.codebook is None and (arguments.images or arguments.photo_limit or arguments.device):
        raise UsageError(
            "--images, --photo-limit and --device are used only with --codebook; give it, or leave them out."
        )


def _unreduced(vqgan: VQGAN, path: Path) -> VQGAN:
    from uigc.runtime.bundle.manifest import is_codebook_size

    words = vqgan.config.codebook
    if not is_codebook_size(words):
        raise InputError(
            f"{path} has {words} codewords, and a power of two from 4 to 4096 is needed; reduce them with, for "
            "example, --codebook 256 --images IMAGES."
        )
    return vqgan


def _with_fewer_codewords(vqgan: VQGAN, arguments: argparse.Namespace) -> VQGAN:
    """Count the use of codewords on the photographs that are not held out, and reduce them."""
    import contextlib
    import os
    import random

    import torch

    from uigc.runtime.format.bitstream import PATCH
    from uigc.training import devices
    from uigc.training.codebook_reduction import reduced, use
    from uigc.training.photos import Photos
    from uigc.training.prior import token_grids

    words, wanted = vqgan.config.codebook, arguments.codebook
    if wanted >= words:
        raise UsageError(f"--codebook is {wanted} and the codebook has {words}; give fewer, or leave --codebook out.")
    device = devices.device(arguments.device or devices.default())
    with contextlib.ExitStack() as stack:
        if arguments.quiet:  # no progress bars
            stack.enter_context(contextlib.redirect_stderr(stack.enter_context(open(os.devnull, "w"))))
        stack.enter_context(torch.no_grad())
        photos = Photos(arguments.images, device, PATCH, arguments.photo_limit)
        grids = token_grids(vqgan.to(device), photos.training, random.Random(0))
    counts = use(grids, words)
    centres, kept = reduced(vqgan.quantizer.words, counts, wanted)
    _log(
        arguments,
        f"{int((counts > 0).sum())} of {words} codewords occur in {len(grids)} photographs; {wanted} in their place "
        f"keep {kept:.0%} of the variance",
    )
    return vqgan.cpu().with_codewords(centres)


def _log(arguments: argparse.Namespace, text: str) -> None:
    if not arguments.quiet:
        print(text, file=sys.stderr)


import_vqgan = Command("take a trained VQGAN as the tokenizer of a new run", _configure, _run)
