"""Recipe of the tokenizer: autoencoder first, then k-means on its latents, then vector quantization.

Losses: mean absolute error, LPIPS-Alex on the whole batch, and on a share of it DISTS and an adversary that looks at
the same features, because their network is the most costly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uigc.bench.metrics import DISTS, LPIPS, Networks, psnr
from uigc.export.modules.checkpoint import load_tokenizer, save_tokenizer
from uigc.export.modules.interface import VQTokenizer
from uigc.export.modules.tokenizer import Tokenizer, TokenizerConfig, unit
from uigc.runtime.errors import InputError
from uigc.training.adversary import Adversary
from uigc.training.loop import Run, RunOptions, averaged, mean, mixed_precision, save_image
from uigc.training.photos import Photos, centre, crops

Network = Callable[[Tensor], Tensor]

QUANTIZE_AFTER = 0.3  # share of the budget
PERCEPTUAL_AFTER = 0.03
ADVERSARIAL_AFTER = 0.6
WARM_ADVERSARIAL_AFTER = 0.05  # of a run that goes on from trained weights
LEARNING_RATE = 5e-4
WARM_LEARNING_RATE = 3e-4
COMMITMENT_WEIGHT = 0.1
PHASES = 4  # each way: the stride of AlexNet's first convolution


@dataclass(frozen=True)
class LossWeights:
    """Weights beside that of the mean absolute error, 1; ``share`` of the batch goes through VGG16."""

    lpips: float
    dists: float
    adversarial: float
    share: float


WEIGHTS = LossWeights(lpips=0.5, dists=0.25, adversarial=0.03, share=0.2)
# Once the shapes are there, more of the gradient may go into how the image looks.
WARM_WEIGHTS = LossWeights(lpips=1.0, dists=0.5, adversarial=0.05, share=0.3)


@dataclass(frozen=True)
class Judgement:
    """A loss to minimize, its parts for the log, and the VGG16 features of what was made and of the photographs."""

    total: Tensor
    figures: dict[str, Tensor]
    made: list[Tensor]
    real: list[Tensor]


class Loss(nn.Module):
    """Distance of a reconstruction; the perceptual terms are zero without ``networks``."""

    def __init__(self, networks: Networks | None, weights: LossWeights) -> None:
        super().__init__()
        self.weights = weights
        self.lpips = LPIPS(networks) if networks else None
        self.dists = DISTS(networks) if networks else None

    def forward(
        self, image: Tensor, reference: Tensor, perceptual: bool = True, adversary: Adversary | None = None
    ) -> Judgement:
        absolute = (image - reference).abs().mean()
        if not perceptual or self.lpips is None or self.dists is None:
            return Judgement(absolute, {"l1": absolute}, [], [])
        image, reference = at_any_phase(image, reference)
        weights = self.weights
        share = max(1, round(weights.share * len(image)))
        made = self.dists.features(image[:share])
        with torch.no_grad():
            real = self.dists.features(reference[:share])
        lpips, dists = self.lpips(image, reference).mean(), self.dists.distance(made, real).mean()
        total = absolute + weights.lpips * lpips + weights.dists * dists
        figures = {"l1": absolute, "lpips": lpips, "dists": dists}
        if adversary is not None:
            figures["adversarial"] = adversary.generator_loss(made)
            total = total + weights.adversarial * figures["adversarial"]
        return Judgement(total, figures, made, real)


def at_any_phase(image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Shift both images (B, 3, H, W) by the same random 0 to 3 mirrored rows and columns.

    Otherwise the decoder learns patterns aligned with the loss networks' stride of 4, which these networks do not see
    and people do.
    """
    down, right = torch.randint(PHASES, (2,)).tolist()
    one, other = (F.pad(x, (right, 0, down, 0), mode="reflect") for x in (image, reference))
    return one, other


def _fit_codebook(tokenizer: Tokenizer, photos: Photos, run: Run, size: int) -> None:
    latents: list[Tensor] = []
    with torch.no_grad(), mixed_precision(run.options.device):
        while sum(map(len, latents)) < 24 * tokenizer.config.codebook:
            batch = crops(photos.training, run.options.batch, size, run.rng)
            encoded = tokenizer.encoder(batch).float()
            latents.append(unit(encoded.permute(0, 2, 3, 1).reshape(-1, tokenizer.config.dim)))
    tokenizer.quantizer.fit(torch.cat(latents))


def evaluate(tokenizer: VQTokenizer, images: list[Tensor], networks: Networks | None, size: int) -> dict[str, float]:
    """Return mean figures of the tokenizer on the middle ``size`` pixels of each image, and the codewords it uses."""
    lpips = LPIPS(networks) if networks else None
    dists = DISTS(networks) if networks else None
    figures: dict[str, list[float]] = {"psnr": [], "held_out_lpips": [], "held_out_dists": []}
    used: set[int] = set()
    for image in images:
        picture = centre(image, size)
        tokens = tokenizer.quantizer.assign(tokenizer.encoder(picture))
        used |= set(tokens.flatten().tolist())
        back = tokenizer.decoder(tokenizer.quantizer.look_up(tokens)).clamp(0, 1)
        figures["psnr"].append(float(psnr(back, picture)))
        if lpips and dists:
            figures["held_out_lpips"].append(float(lpips(back, picture)))
            figures["held_out_dists"].append(float(dists(back, picture)))
    return {**{key: round(mean(values), 4) for key, values in figures.items() if values}, "words_used": len(used)}


def sample(tokenizer: VQTokenizer, image: Tensor, size: int) -> Tensor:
    """Return the middle of an image and its reconstruction side by side: (3, size, 2 * size)."""
    picture = centre(image, size)
    back = tokenizer.decoder(tokenizer.quantizer.look_up(tokenizer.quantizer.assign(tokenizer.encoder(picture))))
    return torch.cat([picture[0], back[0]], 2)


def halves(tokenizer: VQTokenizer, compiled: bool) -> tuple[Network, Network]:
    """Return encoder and pixel decoder, compiled if asked for; they share the tokenizer's weights either way."""
    if compiled:
        return torch.compile(tokenizer.encoder), torch.compile(tokenizer.decoder)
    return tokenizer.encoder, tokenizer.decoder


def report(run: Run, tokenizer: VQTokenizer, photos: Photos, networks: Networks | None, size: int) -> None:
    """Figures and a sample of ``tokenizer``, all or part of which is ``run``'s module, with the averaged weights."""
    with averaged(run):
        figures = evaluate(tokenizer, photos.held_out[:16], networks, size)
        save_image(run.options.output / f"{run.name}.png", sample(tokenizer, photos.held_out[0], size))
    run.report(**figures)


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


def teach(adversary: Adversary, judged: Judgement, run: Run) -> None:
    """Let the adversary learn from a batch that it judged."""
    if "adversarial" in judged.figures:
        run.note(discriminator=adversary.learn(judged.real, judged.made))


PACE = LEARNING_RATE, ADVERSARIAL_AFTER
WARM_PACE = WARM_LEARNING_RATE, WARM_ADVERSARIAL_AFTER  # of a run that continues another


def train(
    options: RunOptions,
    config: TokenizerConfig,
    size: int,
    networks: Networks | None,
    weights: LossWeights = WEIGHTS,
    start: Path | None = None,
    codebook: int | None = None,
) -> None:
    """Train a tokenizer; write ``tokenizer.safetensors``, ``.jsonl`` and ``.png`` to ``options.output``.

    ``start``: folder of a run whose tokenizer and configuration this one continues. ``codebook``: another number of
    codewords, which are then fitted anew.
    """
    torch.manual_seed(options.seed)
    photos = Photos(options.images, options.device, size, options.photo_limit)
    print(f"{len(photos.training)} photographs to train on, {len(photos.held_out)} held out")
    tokenizer = _started(start, codebook) if start else Tokenizer(replace(config, codebook=codebook or config.codebook))
    tokenizer.to(options.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = Loss(networks.to(options.device) if networks else None, weights)
    adversary = Adversary(options.device)
    subject = {"tokenizer": tokenizer.config.to_json(), "seed": options.seed, "start": start is not None}
    rate, adversarial_after = WARM_PACE if start else PACE
    run = Run("tokenizer", options, tokenizer, rate, subject, {"adversary": adversary})
    encode, decode = halves(tokenizer, options.compiled)
    for _ in run.reporting(options.batch, "images", lambda final: report(run, tokenizer, photos, networks, size)):
        if not bool(tokenizer.quantizer.fitted) and (start or run.progress > QUANTIZE_AFTER):
            _fit_codebook(tokenizer, photos, run, size)
        batch = crops(photos.training, options.batch, size, run.rng).contiguous(memory_format=torch.channels_last)
        with mixed_precision(options.device):
            latents = encode(batch)
        codewords, commitment = tokenizer.quantizer(latents.float())
        with mixed_precision(options.device):
            back = decode(codewords).float()
            perceptual = start is not None or run.progress > PERCEPTUAL_AFTER
            judged = loss(back, batch, perceptual, adversary if run.progress > adversarial_after else None)
        run.optimize(judged.total + COMMITMENT_WEIGHT * commitment, commitment=commitment, **judged.figures)
        teach(adversary, judged, run)
    if run.completed:
        save_tokenizer(options.output, run.average.state, tokenizer.config)
