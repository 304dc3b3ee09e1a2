"""The runtime's own subcommands. Their modules are imported when they run, so that ``--help`` stays fast."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from uigc.runtime.cli.arguments import (
    PRECISIONS,
    add_bundle,
    add_codec_arguments,
    add_device,
    add_engines,
    add_mask,
    add_names,
    add_rate,
    add_read_back,
    add_reading,
    count,
    percent,
    rate,
    refuse_useless,
    seconds,
)
from uigc.runtime.cli.command import Command
from uigc.runtime.cli.progress_line import ProgressLine
from uigc.runtime.io.streams import show

if TYPE_CHECKING:
    from uigc.runtime.format.bitstream import Header


def _configure_compress(parser: argparse.ArgumentParser) -> None:
    text = "IN and OUT: an image and the .uigc file to write (default: beside it), - for standard streams; "
    add_names(parser, f"{text}with -o or --recursive: images")
    add_rate(parser)
    add_reading(parser)
    add_read_back(parser)
    add_codec_arguments(parser)


def _compress(arguments: argparse.Namespace) -> None:
    from uigc.runtime.cli import batch, places, single

    options = rate(arguments)
    plan = places.plan(arguments, places.IMAGES, places.FILE_SUFFIX)
    if plan.many:
        batch.compress(arguments, plan, options)
    else:
        single.compress(arguments, plan, options)


def _configure_decompress(parser: argparse.ArgumentParser) -> None:
    text = "IN and OUT: a .uigc file and the image to write (default: a .png beside it), - for standard streams; "
    add_names(parser, f"{text}with -o or --recursive: files")
    text = "format of images that are not named: png (default), jpg, webp, avif, tif, bmp, ppm; a name's suffix decides"
    parser.add_argument("--format", metavar="FORMAT", help=text)
    parser.add_argument("--suffix", dest="format", help=argparse.SUPPRESS)  # the same, by its first name
    text = "decode the beginning of a file that was cut, and regenerate the rest (default: refuse such a file)"
    parser.add_argument("--partial", action="store_true", help=text)
    text = "quality of jpg, webp and avif, 1 to 100 (default: the least loss that each is capable of)"
    parser.add_argument("--quality", metavar="N", type=percent, help=text)
    add_codec_arguments(parser)


def _decompress(arguments: argparse.Namespace) -> None:
    from uigc.runtime.cli import batch, places, single
    from uigc.runtime.cli.output_format import OutputFormat

    if arguments.partial:
        refuse_useless({"--batch": arguments.batch}, "--partial")
    output = OutputFormat.of_arguments(arguments)
    plan = places.plan(arguments, places.FILES, output.suffix or places.IMAGE_SUFFIX)
    if plan.many:
        batch.decompress(arguments, plan, output)
    else:
        single.decompress(arguments, plan, output)


def _configure_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="FILE", help=".uigc file, or - for standard input")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _lost_tokens(header: Header) -> str:
    if header.mode.share_off_edges == 1:
        return "none"
    return "most likely" if header.seed is None else f"drawn, seed {header.seed}"


def _info(arguments: argparse.Namespace) -> None:
    from uigc.runtime.format import bitstream
    from uigc.runtime.io import files

    data = files.read(arguments.input, bitstream.MAX_FILE)
    header, payload = bitstream.unpack(data)
    figures = {
        "format_version": header.version,
        "width": header.width,
        "height": header.height,
        "mask": header.mode.label,
        "lost_tokens": _lost_tokens(header),
        "prior": header.prior_id.hex(),
        "bytes": len(data),
        "payload_bytes": len(payload),
        "bits_per_pixel": round(8 * len(data) / (header.width * header.height), 6),
    }
    if arguments.json:
        show(json.dumps(figures))
    else:
        show("\n".join(f"{key.replace('_', ' '):16}{value}" for key, value in figures.items()))


def _configure_doctor(parser: argparse.ArgumentParser) -> None:
    add_bundle(parser)
    text = "prove again that the prior's graphs are exact (needs uigc[export])"
    parser.add_argument("--prove", action="store_true", help=text)
    text = "measure which precision of the prior is the fastest here, and make it the default (see docs/CLI.md)"
    parser.add_argument("--tune", action="store_true", help=text)
    text = "with --tune: measure on these providers, and make the fastest the default (without it: on cpu)"
    parser.add_argument("--provider", nargs="+", metavar="NAME", help=text)
    add_device(parser)
    text = "with --tune: precisions of encoder and pixel decoder that may become the default, too; they change pixels"
    parser.add_argument("--allow-pixels", choices=PRECISIONS, nargs="+", default=[], help=text)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _doctor(arguments: argparse.Namespace) -> None:
    from uigc.runtime.cli import doctor

    if arguments.tune:
        _tune(arguments)
    asked = [section for section, given in (("proof", arguments.prove), ("tuned", arguments.tune)) if given]
    doctor.report(arguments.bundle, arguments.json, arguments.prove, doctor.SECTIONS if arguments.verbose else asked)


def _tune(arguments: argparse.Namespace) -> None:
    from uigc.runtime import providers
    from uigc.runtime.bundle import Bundle
    from uigc.runtime.cli import autotune

    bundle, device = Bundle.load(arguments.bundle), arguments.device
    named = list(dict.fromkeys(arguments.provider or ()))
    runners = [providers.find(name) for name in named or [providers.DEFAULT]]
    if not any(runner.on_gpu for runner in runners):
        providers.check_device(runners[0], device)
    with ProgressLine(arguments.json) as line:
        for provider in named or [providers.DEFAULT]:
            autotune.tune(bundle, provider, arguments.allow_pixels, line, device)
        if named:
            autotune.choose_provider(bundle, named, line, device)


def _configure_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IN", nargs="?", help="image to compress (default: the sample photograph)")
    parser.add_argument("-o", "--output", metavar="DIR", default=".", help="folder for the results (default: this one)")
    add_mask(parser)
    add_reading(parser)
    add_codec_arguments(parser)


def _demo(arguments: argparse.Namespace) -> None:
    from uigc.runtime.cli import demo

    demo.run(arguments)


def _configure_verify(parser: argparse.ArgumentParser) -> None:
    add_bundle(parser)
    text = "provider to check; may be given several times (default: all that can run here)"
    parser.add_argument("--provider", metavar="NAME", action="append", help=text)
    add_engines(parser)
    add_device(parser)
    parser.add_argument("--images", metavar="DIR", type=Path, help="folder of images to use besides the sample")
    parser.add_argument("--windows", metavar="N", type=count, default=40, help="number of random windows (default: 40)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of the random windows (default: 0)")
    parser.add_argument("--json", metavar="FILE", help="write all outcomes to this file")
    parser.add_argument("--force", action="store_true", help="overwrite FILE if it exists")
    parser.add_argument("--quiet", action="store_true", help="print nothing but the table and errors")


def _verify(arguments: argparse.Namespace) -> None:
    from uigc.runtime.cli import verify

    verify.run(arguments)


compress = Command("compress images to .uigc files", _configure_compress, _compress)
decompress = Command("decompress .uigc files to images", _configure_decompress, _decompress)
info = Command("show what a .uigc file contains", _configure_info, _info)
doctor = Command("check the installation: packages, providers and bundle", _configure_doctor, _doctor)
verify = Command("compare every provider with the integer reference, bit for bit", _configure_verify, _verify)
demo = Command("compress and decompress a photograph and write both side by side", _configure_demo, _demo)


def _configure_conformance(parser: argparse.ArgumentParser) -> None:
    text = "the kit (with --run or --logits), or files to answer for (with --answer; default: requests on stdin)"
    parser.add_argument("names", metavar="NAME", nargs="*", help=text)
    parser.add_argument("-o", "--output", metavar="KIT", type=Path, help="write the kit of a bundle to this folder")
    text = "decoder to run against the kit: a command with {file} in it, or one that answers requests line by line"
    parser.add_argument("--run", metavar="COMMAND", dest="decoder", help=text)
    text = "the same for logits, with {stage}, {batch}, {rows}, {columns} and {tokens} in it, or line by line"
    parser.add_argument("--logits", metavar="COMMAND", help=text)
    text = "be such a decoder: print the hash of each file's grid, or the refusal"
    parser.add_argument("--answer", action="store_true", help=text)
    parser.add_argument("--seconds", type=seconds, metavar="S", help="time for each answer (default: 60)")
    parser.add_argument("--json", metavar="FILE", help="write the verdicts as JSON")
    add_codec_arguments(parser)
    parser.set_defaults(provider=None, device=None)  # so that those that are given where none is used are refused


def _conformance(arguments: argparse.Namespace) -> None:
    from uigc.runtime.cli.conformance import run

    run(arguments)


conformance = Command("write the conformance kit, or run a decoder against it", _configure_conformance, _conformance)
