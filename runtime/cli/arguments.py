"""The arguments that commands share, and what becomes of them."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uigc.runtime.errors import DependencyError, UsageError

if TYPE_CHECKING:
    from uigc.runtime.codec import Codec

ENGINES = "folder that 'uigc build' wrote, for a provider that runs engines (default: that in UIGC_ENGINES)"


def add_codec_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", metavar="DIR", help="bundle to use instead of the one that ships")
    parser.add_argument("--provider", default="cpu", metavar="NAME", help="what runs the graphs (default: cpu)")
    parser.add_argument("--engines", metavar="DIR", type=Path, help=ENGINES)
    text = "of the prior's graphs; changes speed, never a symbol (default: the provider's fastest)"
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), help=text)
    text = "of encoder and pixel decoder; changes pixels (default: the provider's choice)"
    parser.add_argument("--pixel-precision", choices=("fp32", "fp16", "int8"), help=text)
    parser.add_argument("--threads", type=int, metavar="N", help="threads for each graph (default: all cores)")
    parser.add_argument("--max-pixels", type=int, metavar="N", help="refuse larger images (default: 2^25)")
    text = "megabytes that the networks may use; larger images are worked on in parts (default: 2048)"
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
    from uigc.runtime.networks.tiling import DEFAULT_MEMORY

    for name, largest in (("threads", 1024), ("max_pixels", 1 << 28), ("max_memory", 1 << 22)):
        value = getattr(arguments, name)
        if value is not None and not 1 <= value <= largest:
            raise UsageError(f"--{name.replace('_', '-')} is {value}, and 1 to {largest} are taken; give another.")
    return Codec(
        arguments.bundle,
        provider=arguments.provider,
        threads=arguments.threads,
        max_pixels=arguments.max_pixels,
        precision=arguments.precision,
        pixel_precision=arguments.pixel_precision,
        engines=arguments.engines,
        max_memory=arguments.max_memory << 20 if arguments.max_memory else DEFAULT_MEMORY,
    )


def add_mask(parser: argparse.ArgumentParser) -> None:
    text = (
        "which tokens are sent: entire (all), edge (half of them off the edges, the default), edge_more (a quarter); "
        "after a colon the share of the image that is kept whole, as in edge_more:0.2; with +draw at the end, and "
        "perhaps a seed, the decoder draws what was not sent, which is better where little is, as in edge_more:0+draw"
    )
    parser.add_argument("--mask", metavar="MASK", default="edge", help=text)


def add_names(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("names", metavar="NAME", nargs="+", help=text)
    parser.add_argument(
        "-o", "--output", dest="folder", metavar="DIR", help="folder for the results of any number of files"
    )
    text = "how many batches of DIR are under way at a time (default: as many as there are cores, at most 8)"
    parser.add_argument("--jobs", metavar="N", type=count, help=text)
    text = "how many files of one size for DIR go through the networks together (default: the provider's choice)"
    parser.add_argument("--batch", metavar="N", type=count, help=text)


def pair(names: list[str]) -> tuple[str, str]:
    if len(names) != 2:
        raise UsageError(f"{len(names)} names were given, and IN and OUT were expected; for many files add -o DIR.")
    return names[0], names[1]


def count(text: str) -> int:
    """The type of an argument that counts something."""
    value = int(text)
    if not 1 <= value <= 100_000:
        raise argparse.ArgumentTypeError(f"{value} is not from 1 to 100000")
    return value
