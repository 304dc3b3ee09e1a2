"""The runtime's own subcommands. Their modules are imported when they run, so that ``--help`` stays fast."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uigc.runtime.cli import Command
from uigc.runtime.errors import DependencyError, UsageError

if TYPE_CHECKING:
    from uigc.runtime.bitstream import Header
    from uigc.runtime.codec import Codec

PROGRESS_AFTER = 2.0  # seconds
_ENGINES = "folder that 'uigc build' wrote, for a provider that runs engines (default: that in UIGC_ENGINES)"


class ProgressLine:
    """A line on a terminal's standard error that appears once the work has taken two seconds."""

    def __init__(self, quiet: bool) -> None:
        self._text, self._shown = "", False
        self._timer = threading.Timer(PROGRESS_AFTER, self._begin)
        self._timer.daemon = True
        if not quiet and sys.stderr.isatty():
            self._timer.start()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __call__(self, label: str, done: int, total: int) -> None:
        self._text = f"{label} {done}/{total}"
        if self._shown:
            self._draw()

    def say(self, text: str) -> None:
        """A line of its own on standard error, above this one."""
        clear = "\r\x1b[K" if self._shown else ""
        print(f"{clear}{text}", file=sys.stderr, flush=True)
        if self._shown:
            self._draw()

    def _begin(self) -> None:
        self._shown = True
        self._draw()

    def _draw(self) -> None:
        print(f"\r\x1b[K{self._text}", end="", file=sys.stderr, flush=True)


def add_codec_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", metavar="DIR", help="bundle to use instead of the one that ships")
    parser.add_argument("--provider", default="cpu", metavar="NAME", help="what runs the graphs (default: cpu)")
    parser.add_argument("--engines", metavar="DIR", type=Path, help=_ENGINES)
    text = "of the prior's graphs; changes speed, never a symbol (default: the provider's fastest)"
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), help=text)
    text = "of encoder and pixel decoder; changes pixels (default: the provider's choice)"
    parser.add_argument("--pixel-precision", choices=("fp32", "fp16", "int8"), help=text)
    parser.add_argument("--threads", type=int, metavar="N", help="threads for each graph (default: all cores)")
    parser.add_argument("--max-pixels", type=int, metavar="N", help="refuse larger pictures (default: 2^25)")
    text = "megabytes that the networks may use; larger pictures are worked on in parts (default: 2048)"
    parser.add_argument("--max-memory", type=int, metavar="MB", help=text)
    parser.add_argument("--force", action="store_true", help="overwrite OUT if it exists")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def require(doing: str, packages: Sequence[str], extra: str) -> None:
    """Refuse a command whose packages are not installed; ``extra`` brings them."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"{doing} needs packages that are missing ({', '.join(missing)}); run: pip install 'uigc[{extra}]'."
        )


def make_codec(arguments: argparse.Namespace) -> Codec:
    from uigc.runtime.codec import Codec
    from uigc.runtime.tiles import DEFAULT_MEMORY

    for name, largest in (("threads", 1024), ("max_pixels", 1 << 28), ("max_memory", 1 << 22)):
        value = getattr(arguments, name)
        if value is not None and not 1 <= value <= largest:
            raise UsageError(f"--{name.replace('_', '-')} is {value}, and 1 to {largest} are taken; give another.")
    return Codec(
        arguments.bundle,
        arguments.provider,
        threads=arguments.threads,
        max_pixels=arguments.max_pixels,
        precision=arguments.precision,
        pixel_precision=arguments.pixel_precision,
        engines=arguments.engines,
        max_memory=arguments.max_memory << 20 if arguments.max_memory else DEFAULT_MEMORY,
    )


def _say(arguments: argparse.Namespace, text: str) -> None:
    """Reports go to standard error, so that ``-`` keeps standard output clean."""
    if not arguments.quiet:
        print(text, file=sys.stderr)


def add_mask(parser: argparse.ArgumentParser) -> None:
    text = (
        "which tokens are sent: entire (all), edge (half of them off the edges, the default), edge_more (a quarter); "
        "after a colon the share of the picture that is kept whole, as in edge_more:0.2; with +draw at the end, and "
        "perhaps a seed, the decoder draws what was not sent, which is better where little is, as in edge_more:0+draw"
    )
    parser.add_argument("--mask", metavar="MASK", default="edge", help=text)


def _add_names(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("names", metavar="NAME", nargs="+", help=text)
    parser.add_argument(
        "-o", "--output", dest="folder", metavar="DIR", help="folder for the results of any number of files"
    )
    text = "how many batches of DIR are under way at a time (default: as many as there are cores, at most 8)"
    parser.add_argument("--jobs", metavar="N", type=count, help=text)
    text = "how many files of one size for DIR go through the networks together (default: the provider's choice)"
    parser.add_argument("--batch", metavar="N", type=count, help=text)


def _pair(names: list[str]) -> tuple[str, str]:
    if len(names) != 2:
        raise UsageError(f"{len(names)} names were given, and IN and OUT were expected; for many files add -o DIR.")
    return names[0], names[1]


def _configure_compress(parser: argparse.ArgumentParser) -> None:
    text = "pictures that Pillow opens; without -o, one of them and the .uigc file to write, - for standard streams"
    _add_names(parser, text)
    add_mask(parser)
    parser.add_argument("--background", metavar="COLOUR", help="flatten transparency onto this colour")
    add_codec_arguments(parser)


def _compress(arguments: argparse.Namespace) -> None:
    from uigc.runtime import files, folders, image
    from uigc.runtime.mask import Mask

    mask = Mask.of(arguments.mask)
    if arguments.folder is not None:
        folders.compress(arguments, mask)
        return
    source, target = _pair(arguments.names)
    files.check_free(target, arguments.force)
    codec = make_codec(arguments)
    pixels = image.read(files.read(source), arguments.background, codec.limits.check)
    with ProgressLine(arguments.quiet) as progress:
        data = codec.compress(pixels, mask, progress)
    files.write(target, data, arguments.force)
    height, width = pixels.shape[:2]
    rate = 8 * len(data) / (width * height)
    _say(arguments, f"{width}x{height} pixels, {len(data)} bytes, {rate:.5f} bits per pixel")


def _configure_decompress(parser: argparse.ArgumentParser) -> None:
    text = ".uigc files; without -o, one of them and the picture to write (.png, .webp ...), - for standard streams"
    _add_names(parser, text)
    parser.add_argument("--suffix", default=".png", help="of the pictures in DIR: .png (default), .webp, .jpg ...")
    add_codec_arguments(parser)


def _decompress(arguments: argparse.Namespace) -> None:
    from uigc.runtime import files, folders, image

    if arguments.folder is not None:
        folders.decompress(arguments)
        return
    source, target = _pair(arguments.names)
    suffix = "" if target == files.STREAM else Path(target).suffix
    image.check_suffix(suffix)
    files.check_free(target, arguments.force)
    data = files.read(source)
    with ProgressLine(arguments.quiet) as progress:
        pixels = make_codec(arguments).decompress(data, progress)
    files.write(target, image.encode(pixels, suffix), arguments.force)
    _say(arguments, f"{pixels.shape[1]}x{pixels.shape[0]} pixels from {len(data)} bytes")


def _configure_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="FILE", help=".uigc file, or - for standard input")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _lost_tokens(header: Header) -> str:
    if header.mode.share_off_edges == 1:
        return "none"
    return "most likely" if header.seed is None else f"drawn, seed {header.seed}"


def _info(arguments: argparse.Namespace) -> None:
    from uigc.runtime import bitstream, files

    data = files.read(arguments.input)
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
        print(json.dumps(figures))
    else:
        print("\n".join(f"{key.replace('_', ' '):16}{value}" for key, value in figures.items()))


def _doctor(arguments: argparse.Namespace) -> None:
    from uigc.runtime import doctor

    if arguments.tune:
        from uigc.runtime import tune
        from uigc.runtime.bundle import Bundle

        with ProgressLine(arguments.json) as line:
            tune.tune(Bundle.load(arguments.bundle), arguments.provider, arguments.allow_pixels, line)
    doctor.report(arguments.bundle, arguments.json, arguments.prove)


def _configure_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", metavar="DIR", help="bundle to examine instead of the one that ships")
    parser.add_argument(
        "--prove", action="store_true", help="prove the prior's graphs exact again (needs uigc[export])"
    )
    text = "measure which precision of the prior is the fastest here, and keep it as the default (see docs/CLI.md)"
    parser.add_argument("--tune", action="store_true", help=text)
    parser.add_argument("--provider", default="cpu", metavar="NAME", help="what to tune (default: cpu)")
    text = "with --tune: precisions of encoder and pixel decoder that may become the default, too; they change pixels"
    parser.add_argument("--allow-pixels", choices=("fp32", "fp16", "int8"), nargs="+", default=[], help=text)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _configure_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", metavar="IN", nargs="?", help="a picture (default: the sample that ships)")
    parser.add_argument("-o", "--output", metavar="DIR", default=".", help="folder for the results (default: this one)")
    add_mask(parser)
    parser.add_argument("--background", metavar="COLOUR", help="flatten transparency onto this colour")
    add_codec_arguments(parser)


def _demo(arguments: argparse.Namespace) -> None:
    from uigc.runtime import demo

    demo.run(arguments)


def _configure_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", nargs="?", help="bundle (default: the one that ships)")
    text = "provider to try; may be given several times (default: all that can run here)"
    parser.add_argument("--provider", metavar="NAME", action="append", help=text)
    parser.add_argument("--engines", metavar="DIR", type=Path, help=_ENGINES)
    parser.add_argument("--images", metavar="DIR", type=Path, help="folder of pictures to try besides the sample")
    parser.add_argument("--windows", metavar="N", type=count, default=40, help="random windows to try (default: 40)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the random windows (default: 0)")
    parser.add_argument("--json", metavar="FILE", help="write all outcomes to this file")
    parser.add_argument("--force", action="store_true", help="overwrite FILE if it exists")
    parser.add_argument("--quiet", action="store_true", help="print nothing but the matrix and errors")


def count(text: str) -> int:
    """The type of an argument that counts something."""
    value = int(text)
    if not 1 <= value <= 100_000:
        raise argparse.ArgumentTypeError(f"{value} is not from 1 to 100000")
    return value


def _verify(arguments: argparse.Namespace) -> None:
    from uigc.runtime import verify

    verify.run(arguments)


compress = Command("compress a picture to a .uigc file", _configure_compress, _compress)
decompress = Command("decompress a .uigc file to a picture", _configure_decompress, _decompress)
info = Command("say what is in a .uigc file, without decoding it", _configure_info, _info)
doctor = Command("say what is installed, which providers would run, and which bundle", _configure_doctor, _doctor)
verify = Command(
    "compare the prior on every provider with the integer reference, bit for bit", _configure_verify, _verify
)
demo = Command("compress and decompress a sample photograph and show both side by side", _configure_demo, _demo)
