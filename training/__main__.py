"""``python -m uigc.training RECIPE --images IMAGES --output RUN``: see ``docs/TRAINING.md``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from uigc.export.modules.dyadic import LARGEST_INPUTS
from uigc.export.modules.prior import PriorConfig
from uigc.export.modules.tokenizer import TokenizerConfig
from uigc.runtime.bundle.manifest import is_codebook_size
from uigc.runtime.errors import UigcError, UsageError
from uigc.runtime.format.bitstream import PATCH
from uigc.training import devices
from uigc.training.loop import RunOptions
from uigc.training.objective import SMALLEST_CROP

TINY_TOKENIZER = TokenizerConfig(32, 8, (16, 16, 32), (1, 1, 1), (8, 16, 16, 32), (1, 1, 1, 1))
TINY_PRIOR = PriorConfig(32, 32, 2, 2, 2)
TINY = "a configuration that trains in seconds, for trials"


def _power_of_two(text: str) -> int:
    value = int(text)
    if not is_codebook_size(value):
        raise argparse.ArgumentTypeError(f"{value} is not a power of two from 4 to 4096")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a number from 1 up")
    return value


def _minutes(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value:g} is not a number of minutes above 0")
    return value


def _crop(text: str) -> int:
    value = int(text)
    if value < SMALLEST_CROP or value % PATCH:
        raise argparse.ArgumentTypeError(f"{value} is not a multiple of {PATCH} from {SMALLEST_CROP} up")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{value} is not a share above 0 and up to 1")
    return value


def _add_common(recipe: argparse.ArgumentParser, batch: int) -> None:
    recipe.add_argument(
        "--images", metavar="IMAGES", type=Path, required=True, help="folder of images or tar files, or a tar file"
    )
    recipe.add_argument(
        "-o", "--output", metavar="RUN", type=Path, required=True, help="folder of the run; an unfinished run resumes"
    )
    budget = recipe.add_mutually_exclusive_group(required=True)
    budget.add_argument("--steps", type=_positive, help="length of the run in optimizer steps")
    budget.add_argument("--minutes", type=_minutes, help="length of the run in minutes of work")
    recipe.add_argument("--batch", type=_positive, default=batch)
    recipe.add_argument("--seed", type=int, default=0)
    recipe.add_argument("--device", default=devices.default())
    recipe.add_argument("--photo-limit", type=_positive, help="use at most this many photographs")
    recipe.add_argument("--stop-after", type=_positive, metavar="STEPS", help="stop now, resume at the next call")


def _add_pixels(recipe: argparse.ArgumentParser, grows: bool = True) -> None:
    text = "; half as much again in the last part of a run" if grows else ""
    text = f"crop size in pixels, a multiple of 16{text} (default: 128)"
    recipe.add_argument("--crop", type=_crop, default=128, metavar="PIXELS", help=text)
    text = "" if grows else ", for the reports alone"
    text = f"safetensors of the networks behind LPIPS and DISTS{text} (see docs/EVALUATION.md)"
    recipe.add_argument("--networks", metavar="FILE", type=Path, help=text)
    recipe.add_argument("--compile", action="store_true", help="torch.compile: slow start, faster steps")


def _add_start(recipe: argparse.ArgumentParser) -> None:
    text = "begin with the tokenizer of this run or bundle, and with its prior and adversaries if it has any"
    recipe.add_argument("--start", type=Path, metavar="RUN", help=text)


def _add_regenerated(recipe: argparse.ArgumentParser) -> None:
    text = "share of the batch whose lost tokens the prior of RUN regenerates (default: none)"
    recipe.add_argument("--regenerated", type=_share, default=0.0, metavar="SHARE", help=text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m uigc.training", description="Train the modules of the codec.")
    recipes = parser.add_subparsers(dest="recipe", required=True)
    tokenizer = recipes.add_parser("tokenizer", help="encoder, codebook and pixel decoder")
    _add_common(tokenizer, batch=16)
    _add_pixels(tokenizer)
    tokenizer.add_argument("--codebook", type=_power_of_two, help="codebook size (default: 256, or that of --start)")
    tokenizer.add_argument("--start", type=Path, metavar="RUN", help="continue the tokenizer of this run or bundle")
    tokenizer.add_argument("--tiny", action="store_true", help=TINY)

    decoder = recipes.add_parser("decoder", help="fine-tune the pixel decoder alone; tokens stay as they are")
    _add_common(decoder, batch=16)
    _add_pixels(decoder)
    _add_start(decoder)
    _add_regenerated(decoder)

    flat = recipes.add_parser("flat", help="fine-tune the pixel decoder on single colours; all else stays")
    _add_common(flat, batch=16)
    _add_pixels(flat, grows=False)
    _add_start(flat)
    _add_regenerated(flat)

    encoder = recipes.add_parser("encoder", help="fine-tune the encoder alone, for tokens that cost fewer bits")
    _add_common(encoder, batch=16)
    _add_pixels(encoder)
    _add_start(encoder)
    text = "weight of a bit a token, at the cost of the prior in RUN, beside the losses of the image (default: 0.03)"
    encoder.add_argument("--rate", type=float, default=0.03, metavar="WEIGHT", help=text)

    _configure_prior(recipes.add_parser("prior", help="multi-stage transformer on the tokens of the tokenizer in RUN"))
    return parser


def _configure_prior(prior: argparse.ArgumentParser) -> None:
    _add_common(prior, batch=12)
    prior.add_argument("--start", type=Path, metavar="RUN", help="continue the prior of this run or bundle")
    text = "token grids of each photograph: as it is, and augmented (default: 1)"
    prior.add_argument("--variants", type=_positive, default=1, metavar="N", help=text)
    shape = PriorConfig()
    text = f"channels, in heads of {shape.width // shape.heads} (default: {shape.width})"
    prior.add_argument("--width", type=_power_of_two, help=text)
    prior.add_argument("--layers", type=_positive, help=f"blocks (default: {shape.layers}, or those of --start)")
    text = f"width of the MLP, times that of the blocks (default: {shape.expansion})"
    prior.add_argument("--expansion", type=_positive, help=text)
    prior.add_argument("--tiny", action="store_true", help=TINY)
    prior.add_argument("--twin", action="store_true", help="train the float twin, to see what exactness costs")


def _prior_config(arguments: argparse.Namespace) -> PriorConfig:
    """Return the size of a new prior; one that goes on from another has that one's, and at least as many layers."""
    names = ("width", "expansion") if arguments.start else ("width", "layers", "expansion")
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if given and (arguments.start or arguments.tiny):
        options, other = " and ".join(f"--{name}" for name in given), "--start" if arguments.start else "--tiny"
        raise UsageError(
            f"{options} and {other} contradict each other, because {other} decides the size; leave one out."
        )
    shape = TINY_PRIOR if arguments.tiny else PriorConfig()
    shape = replace(shape, **given)
    shape = replace(shape, heads=max(1, shape.width * PriorConfig.heads // PriorConfig.width)) if given else shape
    widest = shape.width * shape.expansion
    if widest > LARGEST_INPUTS:
        raise UsageError(
            f"A width of {shape.width} with an expansion of {shape.expansion} makes layers of {widest} inputs, and an "
            f"exact one takes {LARGEST_INPUTS}; give a smaller --width or --expansion."
        )
    return shape


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a recipe; ``arguments``: those behind the program's name, or None for this process's own."""
    try:
        _run(_parser().parse_args(arguments))
    except UigcError as error:
        print(f"uigc.training: {error}", file=sys.stderr)
        raise SystemExit(int(error.exit_code)) from None


def _run(arguments: argparse.Namespace) -> None:
    if getattr(arguments, "tiny", False) and arguments.start:
        raise UsageError("--tiny and --start contradict each other, because --start decides the size; leave one out.")
    options = RunOptions(
        images=arguments.images,
        output=arguments.output,
        steps=arguments.steps,
        minutes=arguments.minutes,
        batch=arguments.batch,
        seed=arguments.seed,
        device=devices.device(arguments.device),
        photo_limit=arguments.photo_limit,
        stop_after=arguments.stop_after,
        compiled=getattr(arguments, "compile", False),
    )
    if arguments.recipe == "prior":
        from uigc.training import prior

        config = _prior_config(arguments)
        prior.train(options, config, arguments.twin, arguments.start, arguments.variants, arguments.layers)
        return
    from uigc.bench.metrics import Networks
    from uigc.training import decoder, encoder, flat, start, tokenizer

    networks = Networks(arguments.networks) if arguments.networks else None
    if arguments.start and arguments.recipe != "tokenizer":
        start.begin(arguments.recipe, arguments.output, arguments.start)
    if arguments.recipe == "decoder":
        decoder.train(options, arguments.crop, networks, arguments.regenerated)
    elif arguments.recipe == "flat":
        flat.train(options, arguments.crop, networks, arguments.regenerated)
    elif arguments.recipe == "encoder":
        encoder.train(options, arguments.crop, networks, arguments.rate)
    else:
        shape = TINY_TOKENIZER if arguments.tiny else TokenizerConfig()
        tokenizer.train(options, shape, arguments.crop, networks, arguments.start, arguments.codebook)


if __name__ == "__main__":
    main()
