"""Recipe of the prior: cross entropy on every stage, on the tokens of a trained tokenizer.

Part of the windows lose tokens the way the mask modes lose them, so that the same weights both code and regenerate. The
forward pass is the dyadic one from the first step, with straight-through gradients.
"""

from __future__ import annotations

import math
import random
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from uigc.bench.metrics import order0
from uigc.export.modules import dyadic, floating
from uigc.export.modules.checkpoint import (
    codebook_fingerprint,
    load_prior,
    load_tokenizer,
    save_prior,
    token_fingerprint,
)
from uigc.export.modules.interface import VQTokenizer
from uigc.export.modules.prior import Prior, PriorConfig
from uigc.runtime.errors import InputError
from uigc.runtime.format.bitstream import PATCH
from uigc.runtime.format.schedule import quincunx
from uigc.runtime.io.atomic import replace as replace_file
from uigc.training.averaging import averaged
from uigc.training.loop import Run, RunOptions
from uigc.training.masks import count_mask_bits, pad_to_windows
from uigc.training.optimizers import NARROWEST, Optimizers, Rates, adamw, without
from uigc.training.photos import Photos
from uigc.training.prior_gradients import Gradients, short_products, stage_loss, threads_on

RATES = Rates(muon=0.02, adamw=2e-3)
WARM_SHARE = 0.5  # of these rates, for a run that goes on from trained weights
WIDE_SHARE = 0.2  # of the steps: whole photographs over several windows, with padding
MASK_IMAGES = 400  # on which the table of the edge bits is counted
OUTPUTS = ("attention.out.weight", "down.weight")  # of a block; it adds nothing to the stream while they are zero
SMALLEST_SIDE = 16 * PATCH  # pixels, of an augmented photograph
BRIGHTNESS = (0.85, 1.15)


def token_grids(tokenizer: VQTokenizer, images: list[Tensor], rng: random.Random, variants: int = 1) -> list[Tensor]:
    """Token grids int64 (h, w), ``variants`` of each image, each cut at a random phase; the first as it is, the
    others augmented."""
    grids = []
    for image in tqdm(images, desc="tokens", unit="images"):
        for variant in range(variants):
            picture = image[None].float() / 255
            picture = augmented(picture, rng) if variant else picture
            height, width = picture.shape[2:]
            top, left = rng.randint(0, height % PATCH), rng.randint(0, width % PATCH)
            tall, wide = height // PATCH * PATCH, width // PATCH * PATCH
            picture = picture[:, :, top : top + tall, left : left + wide]
            grids.append(tokenizer.quantizer.assign(tokenizer.encoder(picture))[0])
    return grids


def augmented(picture: Tensor, rng: random.Random) -> Tensor:
    """(1, 3, H, W) in [0, 1], now and then mirrored, scaled down to no less than a window, brighter or darker."""
    if rng.random() < 0.5:
        picture = picture.flip(3)
    scale = rng.uniform(min(1.0, SMALLEST_SIDE / min(picture.shape[2:])), 1.0)
    picture = F.interpolate(picture, scale_factor=scale, mode="bilinear", antialias=True)
    return (picture * rng.uniform(*BRIGHTNESS)).clamp(0, 1)


def _tokenized(
    options: RunOptions, tokenizer: VQTokenizer, fingerprint: str, variants: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Return training grids and held-out grids, computed once and kept in ``tokens.pt``."""
    subject = [fingerprint, str(options.images.resolve()), options.photo_limit, options.seed, variants]
    kept = options.output / "tokens.pt"
    state = torch.load(kept, map_location=options.device, weights_only=True) if kept.exists() else {}
    if state.get("subject") != subject:
        photos = Photos(options.images, options.device, SMALLEST_SIDE, options.photo_limit)
        rng, apart = random.Random(options.seed), random.Random(options.seed)  # held-out phases, whatever --variants
        with torch.no_grad():
            state = {
                "subject": subject,
                "training": [grid.to(torch.int16) for grid in token_grids(tokenizer, photos.training, rng, variants)],
                "held_out": [grid.to(torch.int16) for grid in token_grids(tokenizer, photos.held_out, apart)],
            }
        replace_file(kept, lambda part: torch.save(state, part))
    return [g.long() for g in state["training"]], [g.long() for g in state["held_out"]]


def _window(grid: Tensor, pad: int, side: int, rng: random.Random) -> Tensor:
    """A random ``side`` square of a grid; now and then its bottom and right are padding, as at an image's border."""
    top, left = (rng.randint(0, max(0, length - side)) for length in grid.shape)
    window = grid[top : top + side, left : left + side]
    if rng.random() < 0.25:
        window = window[: rng.randint(side // 4, side), : rng.randint(side // 4, side)]
    return F.pad(window, (0, side - window.shape[1], 0, side - window.shape[0]), value=pad)


def batch_of(grids: list[Tensor], prior: Prior, count: int, rng: random.Random) -> Tensor:
    """Token windows int64 (count, side, side): single windows, or whole grids over several."""
    config = prior.config
    if rng.random() < WIDE_SHARE:
        chosen = [rng.choice(grids) for _ in range(max(1, count // 4))]
        side = config.window * max(math.ceil(max(grid.shape) / config.window) for grid in chosen)
        return torch.stack([F.pad(g, (0, side - g.shape[1], 0, side - g.shape[0]), value=config.pad) for g in chosen])
    return torch.stack([_window(rng.choice(grids), config.pad, config.window, rng) for _ in range(count)])


def optimizers_of(prior: Prior, share: float) -> Optimizers:
    """Return Muon for the matrices of the blocks and AdamW for the head and the tables, with a share of ``RATES``."""
    layers = [part for part in prior.blocks.modules() if isinstance(part, dyadic.Linear | floating.Linear)]
    matrices = [layer.weight for layer in layers if min(layer.weight.shape) >= NARROWEST]
    rest = without(prior.parameters(), matrices)
    members: dict[str, torch.optim.Optimizer] = {"adamw": adamw(rest, share * RATES.adamw)}
    if matrices:
        members["muon"] = torch.optim.Muon(matrices, share * RATES.muon, weight_decay=0.01)
    return Optimizers(**members)


@torch.no_grad()
def evaluate(prior: Prior, grids: list[Tensor]) -> dict[str, float]:
    """Return bits per token on whole grids with nothing lost, in all and per stage, beside the order-0 entropy."""
    config, schedule = prior.config, prior.schedule
    totals = np.zeros((len(schedule), 2))
    for grid in grids:
        tokens = pad_to_windows(grid, config.window, config.pad)[None]
        nothing = torch.zeros_like(tokens, dtype=torch.bool)
        for stage in range(len(schedule)):
            nats, count = stage_loss(prior, tokens, nothing, stage)
            totals[stage] += float(nats) / math.log(2), count
    figures = {"held_out_bits_per_token": totals[:, 0].sum() / totals[:, 1].sum()}
    figures |= {f"stage{stage}": bits / count for stage, (bits, count) in enumerate(totals)}
    figures["order0"] = order0(torch.cat([grid.flatten() for grid in grids]).cpu().numpy())
    return {key: round(float(value), 4) for key, value in figures.items()}


def _start_from_frequencies(prior: Prior, grids: list[Tensor]) -> None:
    """Start the head's bias as the order-0 distribution, which the first steps then need not learn."""
    counts = torch.bincount(torch.cat([grid.flatten() for grid in grids]), minlength=prior.config.codebook)
    with torch.no_grad():
        prior.bias.weight.copy_(torch.log((counts + 1) / counts.max()))


def prior_for(tokenizer: VQTokenizer, folder: Path, twin: bool = False, layers: int | None = None) -> Prior:
    """Return the prior of a run or bundle for another tokenizer's codewords: each starts as its nearest codeword.

    ``layers``: more blocks than it has; the new ones add nothing yet, so the logits stay the same.
    """
    prior, ours = load_prior(folder, twin, any_arithmetic=True).prior, tokenizer.quantizer.words.cpu()
    theirs = load_tokenizer(folder).quantizer.words
    if theirs.shape[1] != ours.shape[1]:
        raise InputError(
            f"The codewords of the tokenizer of {folder} have {theirs.shape[1]} dimensions and those of this run have "
            f"{ours.shape[1]}, so they cannot be matched; start from another prior, or leave out --start."
        )
    nearest = torch.cdist(ours, theirs).argmin(1)
    special = torch.arange(len(theirs), len(theirs) + 2)  # unknown and padding
    state = prior.state_dict()
    state["tokens.weight"] = state["tokens.weight"][torch.cat([nearest, special])]
    for name in ("head.weight", "bias.weight"):
        state[name] = state[name][nearest]
    config = replace(prior.config, codebook=len(ours), layers=layers or prior.config.layers)
    if config.layers < prior.config.layers:
        raise InputError(
            f"The prior of {folder} has {prior.config.layers} blocks, and {layers} are asked for; a prior can only get "
            "more of them, so give a larger --layers, or leave it out."
        )
    renewed = Prior(config, prior.schedule, floating if twin else dyadic)
    for name, value in renewed.state_dict().items():
        if name.startswith(tuple(f"blocks.{layer}." for layer in range(prior.config.layers, config.layers))):
            state[name] = torch.zeros_like(value) if name.endswith(OUTPUTS) else value
    renewed.load_state_dict(state)
    return renewed


def train(
    options: RunOptions,
    config: PriorConfig,
    twin: bool = False,
    start: Path | None = None,
    variants: int = 1,
    layers: int | None = None,
) -> None:
    """Train on the tokens of ``options.output``'s tokenizer; write ``prior.safetensors`` and ``prior.jsonl`` there.

    ``twin``: train the float twin instead, likewise, to see what exactness costs; it writes ``twin.safetensors``.
    ``variants``: token grids of each photograph, all but the first augmented.
    ``start``: folder of a run or bundle whose prior and configuration this one continues, also with other codewords.
    ``layers``: blocks of a prior that continues another, if not as many as that has; see :func:`prior_for`.
    """
    name = "twin" if twin else "prior"
    torch.manual_seed(options.seed)
    device = options.device
    tokenizer = load_tokenizer(options.output).to(device)
    prior = prior_for(tokenizer, start, twin, layers) if start else None
    fingerprint = token_fingerprint(tokenizer)
    grids, held_out = _tokenized(options, tokenizer, fingerprint, variants)
    print(f"{len(grids)} token grids to train on, {len(held_out)} held out")
    if prior is None:
        prior = Prior(replace(config, codebook=tokenizer.config.codebook), quincunx(), floating if twin else dyadic)
        _start_from_frequencies(prior, grids)
    prior.to(device)
    subject = {name: prior.config.to_json(), "tokens": fingerprint, "start": start is not None, "variants": variants}
    run = Run(name, options, prior, optimizers_of(prior, WARM_SHARE if start else 1.0), subject)
    with nullcontext() if twin else short_products():
        _learn(run, prior, grids, held_out)
    if run.completed:
        with averaged(run):
            chosen = run.rng.sample(grids, 1 if twin else min(MASK_IMAGES, len(grids)))  # a twin encodes nothing
            mask_table = count_mask_bits(prior, tokenizer.quantizer.words, chosen, run.rng)
        save_prior(options.output, run.average.state, prior, mask_table, name, codebook_fingerprint(tokenizer))
        run.conclude()


def _learn(run: Run, prior: Prior, grids: list[Tensor], held_out: list[Tensor]) -> None:
    """Take all steps of a run, on batches of the grids, and report on held-out ones now and then."""
    with Gradients(prior, threads_on(run.options.device)) as gradients:
        for _ in run.reporting("windows", lambda final: _report(run, held_out[: 64 if final else 16])):
            with run.timer("data"):
                batches = [batch_of(grids, prior, run.options.batch, run.rng) for _ in prior.schedule.stages]
            with run.timer("gradients"):
                loss = gradients(batches)
            windows = sum(tokens.numel() for tokens in batches) // prior.config.window**2
            run.descend(windows, bits_per_token=loss / math.log(2))


def _report(run: Run, held_out: list[Tensor]) -> None:
    with averaged(run) as prior:
        assert isinstance(prior, Prior)
        figures = evaluate(prior, held_out)
    run.report(**figures)
