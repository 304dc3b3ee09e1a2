"""Recipe of the pixel decoder alone: tokens stay what they are, so a prior that was trained on them stays valid.

With a prior, part of every batch are grids whose lost tokens that prior regenerated.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor

from uigc.bench.metrics import Networks
from uigc.export.modules.checkpoint import digest, load_prior, load_tokenizer, save_tokenizer, token_fingerprint
from uigc.export.modules.interface import VQTokenizer
from uigc.export.modules.prior import Prior
from uigc.training.loop import Run, RunOptions
from uigc.training.losses import LossWeights
from uigc.training.objective import Objective, larger, plan
from uigc.training.optimizers import mixed
from uigc.training.photos import Photos, crops, flat
from uigc.training.regenerated import Crop, crops_with_losses, draw
from uigc.training.tokenizer import WARM_RATES, Network, halves, report, seen

REGENERATED = 800  # photographs at most whose lost tokens are regenerated, which takes about a second each on a CPU


def train(options: RunOptions, size: int, networks: Networks | None, regenerated: float = 0.0) -> None:
    """Train the decoder of the tokenizer in ``options.output`` and write it back there; log to ``decoder.jsonl``.

    Adversaries that another run left in that folder go on learning. ``regenerated``: the share of a batch's
    photographs, 0..1 but never all of them, whose lost tokens the prior there regenerates.
    """
    device = options.device
    photos, tokenizer, prior, made = prepare(options, larger(size), regenerated, REGENERATED)
    tokenizer.decoder.requires_grad_(True)
    networks = networks.to(device) if networks else None
    objective = Objective(networks, options, LossWeights(), 0)
    objective.start_from(options.output)
    subject = {**subject_of(tokenizer, prior, regenerated), **seen(size, networks)}
    optimizers = mixed(WARM_RATES, (tokenizer.decoder, 1.0))
    run = Run("decoder", options, tokenizer.decoder, optimizers, subject, objective.companions)
    encode, decode = halves(tokenizer, options.compiled)
    for _ in run.reporting("crops", lambda final: report(run, tokenizer, photos, networks, size)):
        side, count, flats = plan(run.progress, size, options.batch)
        with run.timer("data"):
            images, others = draw_mixed(photos, made, regenerated, count, side, run.rng)
            images.append(flat(flats, side, run.rng, device))
        batch, codewords = encoded(tokenizer, encode, run, others, images)
        with run.timer("decoder"), run.precision():
            back = decode(codewords).float()
        gradient = objective.gradient(run, back, batch, flats)
        with run.timer("decoder"):
            back.backward(gradient)  # type: ignore[no-untyped-call]
        run.descend(len(batch))
    if run.completed:
        keep(run, tokenizer)
        objective.save(options.output)
        run.conclude()


def prepare(
    options: RunOptions, smallest: int, regenerated: float, most: int
) -> tuple[Photos, VQTokenizer, Prior | None, list[Crop]]:
    """Return what a recipe of the decoder learns from: photographs of at least ``smallest`` pixels a side, and the
    tokenizer in ``options.output``, frozen.

    If a share of each batch is to be ``regenerated``, also the prior there, and at ``most`` as many of the photographs,
    with lost tokens that it regenerated.
    """
    torch.manual_seed(options.seed)
    photos = Photos(options.images, options.device, smallest, options.photo_limit)
    tokenizer = load_tokenizer(options.output).requires_grad_(False)
    tokenizer.to(options.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not regenerated:
        return photos, tokenizer, None, []
    prior = load_prior(options.output).freeze_for(tokenizer).to(options.device)
    return photos, tokenizer, prior, _regenerated(options, tokenizer, prior, photos, most)


def subject_of(tokenizer: VQTokenizer, prior: Prior | None, regenerated: float) -> dict[str, object]:
    """Return what identifies the tokens that a decoder learns from."""
    return {
        "tokens": token_fingerprint(tokenizer),
        "regenerated": regenerated,
        "prior": digest(prior) if prior else None,
    }


def draw_mixed(
    photos: Photos, made: list[Crop], regenerated: float, count: int, side: int, rng: random.Random
) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
    """Draw ``count`` crops, of which a share comes with ``regenerated`` tokens: those without, and the others."""
    lossy = min(round(regenerated * count), count - 1)
    return [crops(photos.training, count - lossy, side, rng)], [draw(made, lossy, side, rng)] if lossy else []


def keep(run: Run, tokenizer: VQTokenizer) -> None:
    """Write the tokenizer with the averaged weights of its decoder, the module of ``run``."""
    averaged = {f"decoder.{name}": value for name, value in run.average.state.items()}
    save_tokenizer(run.options.output, tokenizer.state_dict() | averaged, tokenizer.config)


def encoded(
    tokenizer: VQTokenizer, encode: Network, run: Run, lossy: list[tuple[Tensor, Tensor]], images: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Join crops and their tokens with ``images``, which are yet to be encoded: images and codewords."""
    with run.timer("encoder"), torch.no_grad():  # in float32, as the exported encoder chooses tokens
        plain = torch.cat(images).contiguous(memory_format=torch.channels_last)
        tokens = tokenizer.quantizer.assign(encode(plain))
        batch = torch.cat([*(crop for crop, _ in lossy), plain]).contiguous(memory_format=torch.channels_last)
        return batch, tokenizer.quantizer.look_up(torch.cat([*(grid for _, grid in lossy), tokens]))


def _regenerated(options: RunOptions, tokenizer: VQTokenizer, prior: Prior, photos: Photos, most: int) -> list[Crop]:
    """Return crops of training photographs with the tokens that the prior regenerates for them.

    Which ones depends on the decoder too, so that a run that goes on from another's sees others.
    """
    rng = random.Random(f"{options.seed} {digest(tokenizer.decoder)}")
    chosen = rng.sample(photos.training, min(most, len(photos.training)))
    return crops_with_losses(tokenizer, prior, chosen, rng)
