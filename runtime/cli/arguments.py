"""The arguments that commands share, and the codec that is made from them."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uigc.runtime.errors import DependencyError, ProviderError, UsageError

if TYPE_CHECKING:
    from uigc.runtime.codec import Codec
    from uigc.runtime.io.image import Reading

PRECISIONS = ("fp32", "fp16", "int8")  # as in bundle/manifest.py, which is too slow to import for --help


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Add ``--bundle``."""
    parser.add_argument("--bundle", metavar="DIR", help="bundle to use (default: the one installed with uigc)")


def add_engines(parser: argparse.ArgumentParser) -> None:
    """Add ``--engines``."""
    text = "folder of engines from 'uigc build', for a provider that runs engines (default: the one in UIGC_ENGINES)"
    parser.add_argument("--engines", metavar="DIR", type=Path, help=text)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    text = "which of several GPUs, from 0 on, for a provider that runs on one (default: 0)"
    parser.add_argument("--device", metavar="N", type=index, default=0, help=text)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the options of reading images; see :func:`reading`."""
    parser.add_argument("--background", metavar="COLOUR", help="flatten transparency onto this colour")
    text = "page or frame of an image that has several, from 0 on (default: refuse such an image)"
    parser.add_argument("--page", metavar="N", type=int, help=text)
    text = "refuse a colour profile that cannot be applied (default: warn, and take the colours for sRGB)"
    parser.add_argument("--strict", action="store_true", help=text)
    text = "scale a larger image down to fit into this size, keeping its proportions, as in 2048x2048"
    parser.add_argument("--resize", metavar="WIDTHxHEIGHT", type=size, help=text)


def reading(arguments: argparse.Namespace) -> Reading:
    """Return how images are read, as the options of :func:`add_reading` say."""
    from uigc.runtime.io.image import Reading

    return Reading(arguments.background, arguments.page, arguments.strict, arguments.resize)


def add_codec_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that compresses or decompresses; see :func:`make_codec`."""
    add_bundle(parser)
    text = "provider of the networks (default: cpu, unless 'uigc doctor --tune' chose another)"
    parser.add_argument("--provider", metavar="NAME", help=text)
    add_engines(parser)
    add_device(parser)
    text = "precision of the prior; speed only, never a symbol (default: the provider's fastest)"
    parser.add_argument("--precision", choices=PRECISIONS, help=text)
    text = "precision of encoder and pixel decoder; changes pixels (default: the provider's choice)"
    parser.add_argument("--pixel-precision", choices=PRECISIONS, help=text)
    parser.add_argument("--threads", type=int, metavar="N", help="threads for each graph (default: all cores)")
    parser.add_argument("--max-pixels", type=int, metavar="N", help="refuse larger images (default: 2^28)")
    text = "megabytes that the networks may use; larger images are processed in tiles (default: 2048)"
    parser.add_argument("--max-memory", type=int, metavar="MB", help=text)
    parser.add_argument("--force", action="store_true", help="overwrite outputs that exist")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def add_rate(parser: argparse.ArgumentParser) -> None:
    """Add ``--mask``, ``--bpp``, ``--size`` and ``--quality``, of which at most one may be given, and ``--effort``."""
    add_mask(parser)
    parser.set_defaults(mask=None)
    parser.add_argument("--bpp", metavar="X", type=float, help="instead of a mask: at most X bits per pixel")
    parser.add_argument("--size", metavar="BYTES", type=int, help="instead of a mask: at most so many bytes")
    text = "instead of a mask: 0 for the smallest file, 100 for one with all tokens, and any number in between"
    parser.add_argument("-q", "--quality", metavar="N", type=float, help=text)
    add_effort(parser)


def add_effort(parser: argparse.ArgumentParser) -> None:
    """Add ``--effort``."""
    text = (
        "1 (the default) to 9: how long to search for the tokens that are worth sending; decoding takes the same time"
    )
    parser.add_argument("--effort", metavar="N", type=effort, default=1, help=text)


def rate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of :meth:`Codec.compress` that those of :func:`add_rate` say, after checking them."""
    from uigc.runtime import rate_control
    from uigc.runtime.codec import DEFAULT_MASK

    options = {name: getattr(arguments, name) for name in ("mask", "bpp", "size", "quality", "effort")}
    rate_control.choose(default=DEFAULT_MASK, **options)
    return options


def add_mask(parser: argparse.ArgumentParser) -> None:
    """Add ``--mask``."""
    text = (
        "tokens to send: entire (all), edge (half of those off the edges, the default) or edge_more (a quarter); after "
        "a colon, the share of the image that is kept whole, as in edge_more:0.2; at the end, +draw and optionally a "
        "seed let the decoder draw the tokens that were not sent, which looks better where few are sent, as in "
        "edge_more:0+draw"
    )
    parser.add_argument("--mask", metavar="MASK", default="edge", help=text)


def add_read_back(parser: argparse.ArgumentParser) -> None:
    """Add ``--read-back`` and ``--no-read-back``."""
    text = "decode every new file on the provider 'cpu' before it is kept (default: on every other provider)"
    parser.add_argument("--read-back", action=argparse.BooleanOptionalAction, help=text)


def add_names(parser: argparse.ArgumentParser, text: str) -> None:
    """Add the inputs, with the help ``text``, and the options for many of them."""
    parser.add_argument("names", metavar="NAME", nargs="+", help=text)
    text = "result of one input, or the folder of any number of results: DIR/, or one that exists"
    parser.add_argument("-o", "--output", metavar="OUT", help=text)
    text = "take all files in folders that are named, too, and keep their trees below -o DIR/ or beside the inputs"
    parser.add_argument("-r", "--recursive", action="store_true", help=text)
    text = "leave inputs alone whose outputs exist: the same command again goes on where it stopped"
    parser.add_argument("--skip-existing", action="store_true", help=text)
    text = "of many: batches in progress at a time (default: on cpu the number of cores, at most 8, else 2)"
    parser.add_argument("--jobs", metavar="N", type=count, help=text)
    text = "of many: files of one size that go through the networks together (default: the provider's choice)"
    parser.add_argument("--batch", metavar="N", type=count, help=text)


def require(doing: str, packages: Sequence[str], extra: str) -> None:
    """Refuse a command whose packages are not installed; ``extra`` is the extra of uigc that installs them."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"{doing} needs packages that are missing ({', '.join(missing)}); run: pip install 'uigc[{extra}]'."
        )


def settle_provider(arguments: argparse.Namespace) -> None:
    """Set ``arguments.provider``, where none is asked for, to the one that was measured as the fastest on this machine.

    If none was, or if it cannot run any more, of which a warning tells, it is the usual one.
    """
    from uigc.runtime import providers, tuning_cache
    from uigc.runtime.bundle import Bundle
    from uigc.runtime.cli.logs import LOG

    if arguments.provider is not None:
        return
    arguments.provider = providers.DEFAULT
    if not isinstance(arguments.bundle, Bundle):
        arguments.bundle = Bundle.load(arguments.bundle, recompute=False)
    fastest = tuning_cache.read_provider(arguments.bundle).get("provider", providers.DEFAULT)
    if fastest != providers.DEFAULT:
        try:
            providers.find(fastest)
            arguments.provider = fastest
        except ProviderError as error:
            LOG.warning("%s, which 'uigc doctor --tune' chose, is not used: %s", fastest, error)


def make_codec(arguments: argparse.Namespace) -> Codec:
    """Create the codec that the options of :func:`add_codec_arguments` describe."""
    from uigc.runtime.cli.logs import LOG
    from uigc.runtime.codec import Codec
    from uigc.runtime.networks.tiling import DEFAULT_MEMORY

    for name, largest in (("threads", 1024), ("max_pixels", 1 << 28), ("max_memory", 1 << 22)):
        value = getattr(arguments, name)
        if value is not None and not 1 <= value <= largest:
            raise UsageError(f"--{name.replace('_', '-')} is {value}, and 1 to {largest} are possible; give another.")
    settle_provider(arguments)
    codec = Codec(
        arguments.bundle,
        provider=arguments.provider,
        threads=arguments.threads,
        max_pixels=arguments.max_pixels,
        precision=arguments.precision,
        pixel_precision=arguments.pixel_precision,
        engines=arguments.engines,
        device=arguments.device,
        max_memory=arguments.max_memory << 20 if arguments.max_memory else DEFAULT_MEMORY,
        read_back=getattr(arguments, "read_back", None),
    )
    bundle, prior = codec.bundle, codec.bundle.prior_id.hex()[:8]
    LOG.info("bundle %s, prior %s", bundle.path, prior)
    LOG.info("on %s, prior in %s, pixels in %s", arguments.provider, codec.precision, codec.pixel_precision)
    return codec


def count(text: str) -> int:
    """Read an argument that counts something: 1 to 100000."""
    return _whole(text, 100_000)


def refuse_useless(options: Mapping[str, object], asked: str) -> None:
    """Raise a :class:`UsageError` if any of these options is given, which would change nothing of what is ``asked``."""
    if given := [name for name, value in options.items() if value]:
        raise UsageError(f"{' and '.join(given)} would change nothing of {asked}; leave out one or the other.")


def seconds(text: str) -> float:
    """Read an argument that is a time: more than 0 seconds, and at most a day."""
    value = float(text)
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(f"{value:g} is not above 0 and at most 86400")
    return value


def index(text: str) -> int:
    """Read an argument that tells one of several things, from 0 on."""
    value = int(text)
    if not 0 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{value} is not from 0 to 1000")
    return value


def size(text: str) -> tuple[int, int]:
    """Read an argument such as 768x512: width and height."""
    width, separator, height = text.partition("x")
    if not separator or not 1 <= int(width) <= 1 << 14 or not 1 <= int(height) <= 1 << 14:
        raise argparse.ArgumentTypeError(f"{text} is not a size such as 768x512, of 1 to {1 << 14} pixels a side")
    return int(width), int(height)


def effort(text: str) -> int:
    """Read an argument from 1 to 9."""
    return _whole(text, 9)


def percent(text: str) -> int:
    """Read an argument from 1 to 100."""
    return _whole(text, 100)


def _whole(text: str, largest: int) -> int:
    value = int(text)
    if not 1 <= value <= largest:
        raise argparse.ArgumentTypeError(f"{value} is not from 1 to {largest}")
    return value
