"""Recipe of the pixel decoder alone: tokens stay what they are, so a prior that was trained on them stays valid.

With a prior, part of every batch are grids whose lost tokens that prior regenerated.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor

from uigc.bench.metrics import Networks
from uigc.export.modules.checkpoint import load_prior, load_tokenizer, save_tokenizer, token_fingerprint
from uigc.export.modules.interface import VQTokenizer
from uigc.training.adversary import Adversary
from uigc.training.loop import Run, RunOptions, mixed_precision
from uigc.training.photos import Photos, crops
from uigc.training.regenerated import Crop, crops_with_losses, draw
from uigc.training.tokenizer import WARM_WEIGHTS, Loss, LossWeights, halves, report, teach

LEARNING_RATE = 3e-4
ADVERSARIAL_AFTER = 0.05
REGENERATED = 800  # photographs at most whose lost tokens are regenerated, which takes about a second each on a CPU


def train(
    options: RunOptions,
    size: int,
    networks: Networks | None,
    weights: LossWeights = WARM_WEIGHTS,
    regenerated: float = 0.0,
) -> None:
    """Fine-tune the decoder of the tokenizer in ``options.output`` and write it back there; log to ``decoder.jsonl``.

    ``regenerated``: the share of a batch, 0..1 but never all of it, whose lost tokens the prior there regenerates.
    """
    torch.manual_seed(options.seed)
    device = options.device
    photos = Photos(options.images, device, size, options.photo_limit)
    tokenizer = load_tokenizer(options.output).requires_grad_(False)
    tokenizer.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    lossy = min(round(regenerated * options.batch), options.batch - 1)
    made = _regenerated(options, tokenizer, photos) if lossy else []
    tokenizer.decoder.requires_grad_(True)
    loss = Loss(networks.to(device) if networks else None, weights)
    adversary = Adversary(device)
    subject: dict[str, object] = {"tokens": token_fingerprint(tokenizer), "regenerated": regenerated}
    run = Run("decoder", options, tokenizer.decoder, LEARNING_RATE, subject, {"adversary": adversary})
    encode, decode = halves(tokenizer, options.compiled)
    for _ in run.reporting(options.batch, "images", lambda final: report(run, tokenizer, photos, networks, size)):
        images = crops(photos.training, options.batch - lossy, size, run.rng)
        with torch.no_grad():  # in float32, as the exported encoder chooses them
            tokens = tokenizer.quantizer.assign(encode(images.contiguous(memory_format=torch.channels_last)))
        if lossy:
            images, tokens = _mixed((images, tokens), draw(made, lossy, size, run.rng), run.rng)
        batch = images.contiguous(memory_format=torch.channels_last)
        codewords = tokenizer.quantizer.look_up(tokens)
        with mixed_precision(device):
            back = decode(codewords).float()
            judged = loss(back, batch, adversary=adversary if run.progress > ADVERSARIAL_AFTER else None)
        run.optimize(judged.total, **judged.figures)
        teach(adversary, judged, run)
    if run.completed:
        averaged = {f"decoder.{name}": value for name, value in run.average.state.items()}
        save_tokenizer(options.output, tokenizer.state_dict() | averaged, tokenizer.config)


def _mixed(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], rng: random.Random) -> tuple[Tensor, Tensor]:
    """Join two batches of images and tokens in random order, since the costly losses look at the first images only."""
    count = len(one[0]) + len(other[0])
    order = torch.tensor(rng.sample(range(count), count), device=one[0].device)
    images, tokens = (torch.cat(pair)[order] for pair in zip(one, other, strict=True))
    return images, tokens


def _regenerated(options: RunOptions, tokenizer: VQTokenizer, photos: Photos) -> list[Crop]:
    """Return crops of training photographs with the tokens that the prior of the run regenerates for them."""
    prior = load_prior(options.output).prior.freeze().to(options.device)
    chosen = random.Random(options.seed).sample(photos.training, min(REGENERATED, len(photos.training)))
    return crops_with_losses(tokenizer, prior, chosen, random.Random(options.seed))
