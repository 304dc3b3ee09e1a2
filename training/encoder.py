"""Recipe of the encoder alone, for fewer bits: codebook, pixel decoder and prior stay, so every file keeps its meaning.

The prior's cost of every codeword, weighted by how near the latent is to it, is a rate that the encoder can descend
(RDVQ, CVPR 2026): it learns to choose the cheaper of two tokens that look alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from uigc.bench.metrics import Networks
from uigc.export.modules.checkpoint import codebook_fingerprint, digest, load_prior, load_tokenizer, save_tokenizer
from uigc.export.modules.interface import VQTokenizer
from uigc.export.modules.prior import Prior
from uigc.export.modules.tokenizer import Quantizer, Tokenizer
from uigc.runtime.errors import InputError
from uigc.training.averaging import averaged
from uigc.training.held_out import coded, distances
from uigc.training.loop import Run, RunOptions
from uigc.training.losses import LossWeights
from uigc.training.masks import gathered, pad_to_windows, stage_grid
from uigc.training.objective import Objective, larger
from uigc.training.optimizers import mixed
from uigc.training.photos import Photos, centre
from uigc.training.prior import evaluate
from uigc.training.tokenizer import COMMITMENT_WEIGHT, HELD_OUT, WARM_RATES, Network, draw_batch, halves, seen

TEMPERATURE = 0.1  # of the chances of codewords, by their squared distances from a latent of unit length
RATED = 8  # crops of a step whose rate is taken: the prior's six stages cost half as much as all else for all of them


@dataclass(frozen=True)
class Choice:
    """What a quantizer makes of latents of unit length (B, dim, h, w).

    ``tokens``: the nearest codewords, int64 (B, h, w). ``codewords``: theirs (B, dim, h, w), whose gradient is that of
    the latents. ``chances``: how much each codeword is the choice (B, codebook, h, w). ``commitment``: the mean squared
    distance, a scalar.
    """

    tokens: Tensor
    codewords: Tensor
    chances: Tensor
    commitment: Tensor


def choose(quantizer: Quantizer, latents: Tensor) -> Choice:
    """Quantize latents (B, dim, h, w), and let gradients pass: straight to the codewords, and by way of chances."""
    directions = F.normalize(latents, dim=1)
    cosines = quantizer.scores(directions)
    tokens = cosines.detach().argmax(1)
    given = directions * quantizer.scale
    codewords = given + (quantizer.look_up(tokens) - given).detach()
    commitment = (2 - 2 * cosines.gather(1, tokens[:, None])).mean()
    return Choice(tokens, codewords, (2 * cosines / TEMPERATURE).softmax(1), commitment)


def expected_bits(prior: Prior, tokens: Tensor, chances: Tensor) -> Tensor:
    """Return the bits that the prior takes for a token, on average over grids (B, h, w) and over the chances
    (B, codebook, h, w) of each codeword in its place: a scalar. The contexts are those of ``tokens``, all of them sent.
    """
    config, schedule = prior.config, prior.schedule
    padded = pad_to_windows(tokens, config.window, config.pad)
    weights = pad_to_windows(chances, config.window, 0).flatten(2)
    stages, places = stage_grid(schedule, padded), torch.arange(padded[0].numel(), device=tokens.device)
    total = chances.new_zeros(())
    for stage, positions in enumerate(schedule.stages):
        with torch.no_grad():
            context = torch.where((stages >= stage) & (padded != config.pad), config.unknown, padded)
            nats = -F.log_softmax(prior(context, stage).float() * prior.logit, -1)  # (B, asked, codebook)
        asked = gathered(places.view(1, *padded.shape[1:]), positions, schedule.tile)[0]
        total = total + (weights[:, :, asked] * nats.transpose(1, 2)).sum()
    return total / (math.log(2) * tokens.numel())


@dataclass(frozen=True)
class _Parts:
    """What a step needs beside its batch; ``rate``: the weight of a bit a token."""

    quantizer: Quantizer
    prior: Prior
    encode: Network
    decode: Network
    objective: Objective
    rate: float

    def learn(self, run: Run, batch: Tensor, flats: int) -> None:
        """Take a step on a batch (B, 3, S, S), the last ``flats`` of which are of single colours.

        The chain is cut between the networks, so that the time of each can be told.
        """
        with run.timer("encoder"):
            with run.precision():
                latents = self.encode(batch)
            choice = choose(self.quantizer, latents.float())
        given = choice.codewords.detach().requires_grad_()
        with run.timer("decoder"), run.precision():
            made = self.decode(given).float()
        gradient = self.objective.gradient(run, made, batch, flats)
        with run.timer("decoder"):
            made.backward(gradient)  # type: ignore[no-untyped-call]
        with run.timer("prior"):
            rated = slice(0, min(RATED, len(batch) - flats))
            bits = expected_bits(self.prior, choice.tokens[rated], choice.chances[rated])
        with run.timer("encoder"):
            assert given.grad is not None
            loss = (choice.codewords * given.grad).sum() + COMMITMENT_WEIGHT * choice.commitment + self.rate * bits
            loss.backward()  # type: ignore[no-untyped-call]
        run.descend(len(batch), commitment=choice.commitment, bits=bits)


def train(options: RunOptions, size: int, networks: Networks | None, rate: float) -> None:
    """Train the encoder of the tokenizer in ``options.output`` further with the prior there, and write it back; log to
    ``encoder.jsonl``.

    ``rate``: the weight of a bit a token beside the losses of the image. Adversaries that another run left in that
    folder go on learning.
    """
    torch.manual_seed(options.seed)
    photos = Photos(options.images, options.device, larger(size), options.photo_limit)
    tokenizer = _loaded(options.output)
    tokenizer.to(options.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    prior = load_prior(options.output).freeze_for(tokenizer).to(options.device)
    networks = networks.to(options.device) if networks else None
    objective = Objective(networks, options, LossWeights(), 0)
    objective.start_from(options.output)
    # Not the encoder that it begins from: that is another one when the run has ended.
    subject = {
        "codebook": codebook_fingerprint(tokenizer), "decoder": digest(tokenizer.decoder), "prior": digest(prior),
        "rate": rate, **seen(size, networks),
    }  # fmt: skip
    optimizers = mixed(WARM_RATES, (tokenizer.encoder, 1.0))
    run = Run("encoder", options, tokenizer.encoder, optimizers, subject, objective.companions)
    parts = _Parts(tokenizer.quantizer, prior, *halves(tokenizer, options.compiled), objective, rate)
    for _ in run.reporting("crops", lambda final: _report(run, tokenizer, prior, photos, networks, size)):
        with run.timer("data"):
            batch, flats = draw_batch(photos, run, size)
        parts.learn(run, batch, flats)
    if run.completed:
        learned = {f"encoder.{name}": value for name, value in run.average.state.items()}
        save_tokenizer(options.output, tokenizer.state_dict() | learned, tokenizer.config)
        objective.save(options.output)
        run.conclude()


def _loaded(folder: Path) -> Tokenizer:
    """Load the tokenizer of a folder, of which only the encoder is to learn."""
    tokenizer = load_tokenizer(folder)
    if not isinstance(tokenizer, Tokenizer):
        raise InputError(
            f"The tokenizer of {folder} is of the kind {tokenizer.config.kind!r}, and this recipe trains encoders of "
            "the kind 'uigc' alone; give a folder with one."
        )
    tokenizer.requires_grad_(False)
    tokenizer.encoder.requires_grad_(True)
    return tokenizer


def _report(
    run: Run, tokenizer: VQTokenizer, prior: Prior, photos: Photos, networks: Networks | None, size: int
) -> None:
    """Figures of the encoder with its averaged weights: distances, and bits a token."""
    with averaged(run):
        pictures = torch.cat([centre(image, size) for image in photos.held_out[:HELD_OUT]])
        back, tokens = coded(tokenizer, pictures)
        bits = evaluate(prior, list(tokens))["held_out_bits_per_token"]
        run.report(**distances(back, pictures, networks), held_out_bits_per_token=bits)
