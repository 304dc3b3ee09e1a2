"""Recipe of the tokenizer: autoencoder first, then k-means on its latents, then vector quantization."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from uigc.bench.metrics import Networks
from uigc.export.modules.checkpoint import load_tokenizer, save_tokenizer
from uigc.export.modules.interface import VQTokenizer
from uigc.export.modules.tokenizer import Tokenizer, TokenizerConfig, unit
from uigc.runtime.errors import InputError
from uigc.training.averaging import averaged
from uigc.training.held_out import coded, distances, flatness
from uigc.training.loop import Run, RunOptions, mixed_precision, save_image
from uigc.training.losses import LossWeights
from uigc.training.objective import Objective, larger, plan
from uigc.training.optimizers import Rates, mixed
from uigc.training.photos import Photos, centre, crops, flat

Network = Callable[[Tensor], Tensor]

QUANTIZE_AFTER = 0.3  # share of the budget
ADVERSARIAL_AFTER = 0.6
RATES = Rates(muon=0.02, adamw=1e-3)
WARM_RATES = Rates(muon=0.012, adamw=1e-3)  # of a run that goes on from trained weights
WARM_ENCODER_SHARE = 0.5  # of the rates, so that a decoder that is already good can follow the tokens
COMMITMENT_WEIGHT = 0.1
HELD_OUT = 48  # images of a report


def _fit_codebook(tokenizer: Tokenizer, photos: Photos, run: Run, size: int) -> None:
    latents: list[Tensor] = []
    with torch.no_grad(), mixed_precision(run.options.device):
        while sum(map(len, latents)) < 24 * tokenizer.config.codebook:
            batch = crops(photos.training, run.options.batch, size, run.rng)
            encoded = tokenizer.encoder(batch).float()
            latents.append(unit(encoded.permute(0, 2, 3, 1).reshape(-1, tokenizer.config.dim)))
    tokenizer.quantizer.fit(torch.cat(latents))


def halves(tokenizer: VQTokenizer, compiled: bool) -> tuple[Network, Network]:
    """Return encoder and pixel decoder, compiled if asked for; they share the tokenizer's weights either way."""
    if compiled:
        # For each of the two crop sizes anew: graphs for any size are slower.
        return torch.compile(tokenizer.encoder, dynamic=False), torch.compile(tokenizer.decoder, dynamic=False)
    return tokenizer.encoder, tokenizer.decoder


def report(
    run: Run, tokenizer: VQTokenizer, photos: Photos, networks: Networks | None, size: int
) -> tuple[Tensor, Tensor]:
    """Figures and a sample of ``tokenizer``, all or part of which is ``run``'s module, with the averaged weights.

    Returned is what it made of the held-out photographs: images (n, 3, H, W) and tokens (n, h, w).
    """
    with averaged(run):
        pictures = torch.cat([centre(image, size) for image in photos.held_out[:HELD_OUT]])
        back, tokens = coded(tokenizer, pictures)
        used = int((torch.bincount(tokens.flatten()) > 0).sum())
        figures = {**distances(back, pictures, networks), "words_used": used, **flatness(tokenizer)}
        save_image(run.options.output / f"{run.name}.png", torch.cat([pictures[0], back[0]], 2))
    run.report(**figures)
    return back, tokens


def _started(folder: Path, codebook: int | None) -> Tokenizer:
    """Load a trained tokenizer; if ``codebook`` is not None, with that many new codewords, yet to be fitted."""
    tokenizer = load_tokenizer(folder)
    if not isinstance(tokenizer, Tokenizer):
        raise InputError(
            f"The tokenizer of {folder} is of the kind {tokenizer.config.kind!r}, which this recipe cannot train "
            "further; the recipe 'decoder' can."
        )
    if codebook is None:
        return tokenizer
    renewed = Tokenizer(replace(tokenizer.config, codebook=codebook))
    renewed.encoder, renewed.decoder = tokenizer.encoder, tokenizer.decoder
    return renewed


def train(
    options: RunOptions,
    config: TokenizerConfig,
    size: int,
    networks: Networks | None,
    start: Path | None = None,
    codebook: int | None = None,
) -> None:
    """Train a tokenizer; write ``tokenizer.safetensors``, ``.jsonl`` and ``.png`` to ``options.output``.

    ``start``: folder of a run whose tokenizer, adversaries and configuration this one continues. ``codebook``: another
    number of codewords, which are then fitted anew.
    """
    torch.manual_seed(options.seed)
    photos = Photos(options.images, options.device, larger(size), options.photo_limit)
    print(f"{len(photos.training)} photographs to train on, {len(photos.held_out)} held out")
    tokenizer = _started(start, codebook) if start else Tokenizer(replace(config, codebook=codebook or config.codebook))
    tokenizer.to(options.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    networks = networks.to(options.device) if networks else None
    objective = Objective(networks, options, LossWeights(), 0 if start else ADVERSARIAL_AFTER)
    if start:
        objective.start_from(start)
    parts = (tokenizer.encoder, WARM_ENCODER_SHARE if start else 1.0), (tokenizer.decoder, 1.0)
    optimizers = mixed(WARM_RATES if start else RATES, *parts)
    subject = {"tokenizer": tokenizer.config.to_json(), "start": start is not None, **seen(size, networks)}
    run = Run("tokenizer", options, tokenizer, optimizers, subject, objective.companions)
    encode, decode = halves(tokenizer, options.compiled)
    for _ in run.reporting("crops", lambda final: report(run, tokenizer, photos, networks, size)):
        if not tokenizer.quantizer.ready and (start or run.progress > QUANTIZE_AFTER):
            _fit_codebook(tokenizer, photos, run, size)
        with run.timer("data"):
            batch, flats = draw_batch(photos, run, size)
        _learn(tokenizer, encode, decode, objective, run, batch, flats)
    if run.completed:
        save_tokenizer(options.output, run.average.state, tokenizer.config)
        objective.save(options.output)
        run.conclude()


def seen(size: int, networks: Networks | None) -> dict[str, object]:
    """Return what a run's subject says of the crops and of what looks at them."""
    return {"crop": size, "networks": networks is not None}


def draw_batch(photos: Photos, run: Run, size: int) -> tuple[Tensor, int]:
    """Return the crops (B, 3, S, S) of a step, those of single colours last, and their number."""
    options = run.options
    side, count, flats = plan(run.progress, size, options.batch)
    batch = torch.cat([crops(photos.training, count, side, run.rng), flat(flats, side, run.rng, options.device)])
    return batch.contiguous(memory_format=torch.channels_last), flats


def _learn(
    tokenizer: Tokenizer, encode: Network, decode: Network, objective: Objective, run: Run, batch: Tensor, flats: int
) -> None:
    """Take a step on a batch. The chain is cut between the networks, so that the time of each can be told."""
    with run.timer("encoder"):
        with run.precision():
            latents = encode(batch)
        codewords, commitment = tokenizer.quantizer(latents.float())
    given = codewords.detach().requires_grad_()
    with run.timer("decoder"), run.precision():
        made = decode(given).float()
    gradient = objective.gradient(run, made, batch, flats)
    with run.timer("decoder"):
        made.backward(gradient)  # type: ignore[no-untyped-call]
    with run.timer("encoder"):
        loss = (codewords * given.grad).sum() + COMMITMENT_WEIGHT * commitment
        loss.backward()
    run.descend(len(batch), commitment=commitment)
