"""Recipe of the tokenizer: autoencoder first, then k-means on its latents, then vector quantization.

Losses: mean absolute error, LPIPS-Alex on the whole batch, DISTS on a fifth of it (its network is the dearest).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from uigc.bench.metrics import DISTS, LPIPS, Networks, psnr
from uigc.export.modules.checkpoint import save_tokenizer
from uigc.export.modules.tokenizer import Tokenizer, TokenizerConfig, unit
from uigc.training.loop import Run, RunOptions, averaged, mean, mixed_precision, save_picture
from uigc.training.photos import Photos, centre, crops

Network = Callable[[Tensor], Tensor]

QUANTIZE_AFTER = 0.3  # share of the budget
PERCEPTUAL_AFTER = 0.03
LEARNING_RATE = 5e-4
LPIPS_WEIGHT = 0.5
DISTS_WEIGHT = 0.25
COMMITMENT_WEIGHT = 0.1


class Loss(nn.Module):
    """Distance of a reconstruction; the perceptual terms are zero without ``networks``."""

    def __init__(self, networks: Networks | None, lpips_weight: float, dists_weight: float) -> None:
        super().__init__()
        self.lpips_weight, self.dists_weight = lpips_weight, dists_weight
        self.lpips = LPIPS(networks) if networks else None
        self.dists = DISTS(networks) if networks else None

    def forward(self, image: Tensor, reference: Tensor, perceptual: bool) -> tuple[Tensor, dict[str, Tensor]]:
        absolute = (image - reference).abs().mean()
        if not perceptual or self.lpips is None or self.dists is None:
            return absolute, {"l1": absolute}
        share = max(1, len(image) // 5)
        lpips = self.lpips(image, reference).mean()
        dists = self.dists(image[:share], reference[:share]).mean()
        total = absolute + self.lpips_weight * lpips + self.dists_weight * dists
        return total, {"l1": absolute, "lpips": lpips, "dists": dists}


def _fit_codebook(tokenizer: Tokenizer, photos: Photos, run: Run, size: int) -> None:
    latents: list[Tensor] = []
    with torch.no_grad(), mixed_precision(run.options.device):
        while sum(map(len, latents)) < 24 * tokenizer.config.codebook:
            batch = crops(photos.training, run.options.batch, size, run.rng)
            encoded = tokenizer.encoder(batch).float()
            latents.append(unit(encoded.permute(0, 2, 3, 1).reshape(-1, tokenizer.config.dim)))
    tokenizer.quantizer.fit(torch.cat(latents))


def evaluate(tokenizer: Tokenizer, images: list[Tensor], networks: Networks | None, size: int) -> dict[str, float]:
    """Mean figures of the tokenizer alone on the middle ``size`` pixels of each picture, and the words it used."""
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


def sample(tokenizer: Tokenizer, image: Tensor, size: int) -> Tensor:
    """The middle of a picture and its reconstruction, side by side: (3, size, 2 * size)."""
    picture = centre(image, size)
    back = tokenizer.decoder(tokenizer.quantizer.look_up(tokenizer.quantizer.assign(tokenizer.encoder(picture))))
    return torch.cat([picture[0], back[0]], 2)


def halves(tokenizer: Tokenizer, compiled: bool) -> tuple[Network, Network]:
    """Encoder and pixel decoder, compiled if asked for; they share the tokenizer's weights either way."""
    if compiled:
        return torch.compile(tokenizer.encoder), torch.compile(tokenizer.decoder)
    return tokenizer.encoder, tokenizer.decoder


def report(run: Run, tokenizer: Tokenizer, photos: Photos, networks: Networks | None, size: int) -> None:
    """Figures and a sample of ``tokenizer``, all or part of which is ``run``'s module, with the averaged weights."""
    with averaged(run):
        figures = evaluate(tokenizer, photos.held_out[:16], networks, size)
        save_picture(run.options.out / f"{run.name}.png", sample(tokenizer, photos.held_out[0], size))
    run.report(**figures)


def train(options: RunOptions, config: TokenizerConfig, size: int, networks: Networks | None) -> None:
    """Train and write ``tokenizer.safetensors``, ``tokenizer.jsonl`` and ``tokenizer.png`` into ``options.out``."""
    torch.manual_seed(options.seed)
    device = options.device
    photos = Photos(options.photos, device, size, options.photo_limit)
    print(f"{len(photos.training)} photographs to train on, {len(photos.held_out)} held out")
    tokenizer = Tokenizer(config).to(device)
    tokenizer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = Loss(networks.to(device) if networks else None, LPIPS_WEIGHT, DISTS_WEIGHT)
    run = Run("tokenizer", options, tokenizer, LEARNING_RATE, {"tokenizer": config.to_json(), "seed": options.seed})
    encode, decode = halves(tokenizer, options.compiled)
    checked = run.progress
    for _ in run.steps(options.batch, "images"):
        if run.progress > QUANTIZE_AFTER and not bool(tokenizer.quantizer.fitted):
            _fit_codebook(tokenizer, photos, run, size)
        batch = crops(photos.training, options.batch, size, run.rng).contiguous(memory_format=torch.channels_last)
        with mixed_precision(device):
            latents = encode(batch)
        words, commitment = tokenizer.quantizer(latents.float())
        with mixed_precision(device):
            back = decode(words).float()
            distance, figures = loss(back, batch, run.progress > PERCEPTUAL_AFTER)
        run.optimize(distance + COMMITMENT_WEIGHT * commitment, commitment=commitment, **figures)
        if run.progress - checked >= 0.1:
            checked = run.progress
            report(run, tokenizer, photos, networks, size)
    if not run.completed:
        return
    report(run, tokenizer, photos, networks, size)
    save_tokenizer(options.out, run.average.state, config)
