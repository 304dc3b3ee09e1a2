"""What a run reports of a tokenizer: how it codes held-out photographs, and images of a single colour."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from uigc.bench.flat_fields import COLOURS, judge
from uigc.bench.metrics import DISTS, LPIPS, Networks, psnr
from uigc.export.modules.interface import VQTokenizer
from uigc.runtime.format.bitstream import PATCH
from uigc.training.losses import fixed_pattern

BATCH = 16
FLAT_SIDE = 8 * PATCH  # pixels, of the images of a single colour


def pure_colours(device: torch.device) -> Tensor:
    """Return the colours (9, 3, 1, 1) in [0, 1] of :mod:`uigc.bench.flat_fields`, in their order there."""
    return torch.tensor([*COLOURS.values()], device=device).view(-1, 3, 1, 1) / 255


def coded(tokenizer: VQTokenizer, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Encode and decode images (n, 3, H, W) in [0, 1]; return what comes back, likewise, and the tokens (n, h, w)."""
    back, grids = [], []
    for batch in torch.split(pictures, BATCH):
        tokens = tokenizer.quantizer.assign(tokenizer.encoder(batch))
        back.append(tokenizer.decoder(tokenizer.quantizer.look_up(tokens)).clamp(0, 1))
        grids.append(tokens)
    return torch.cat(back), torch.cat(grids)


def distances(back: Tensor, pictures: Tensor, networks: Networks | None) -> dict[str, float]:
    """Return mean figures of decoded images (n, 3, H, W) in [0, 1], and the root mean square of the pattern that all of
    their tokens have in common, in levels of 255."""
    metrics = {"psnr": psnr}
    if networks:
        metrics |= {
            "held_out_lpips": LPIPS(networks),
            "held_out_lpips_vgg": LPIPS(networks, "vgg"),
            "held_out_dists": DISTS(networks),
        }
    pairs = list(zip(torch.split(back, BATCH), torch.split(pictures, BATCH), strict=True))
    figures = {name: torch.cat([metric(*pair) for pair in pairs]).mean() for name, metric in metrics.items()}
    figures["held_out_pattern"] = 255 * fixed_pattern(back - pictures).square().mean().sqrt()
    return {name: round(float(value), 4) for name, value in figures.items()}


def flatness(tokenizer: VQTokenizer) -> dict[str, float]:
    """Return by how much images of nine single colours come back uneven, and off their colours: the worst of them, in
    levels of 255, as :mod:`uigc.bench.flat_fields` measures it."""
    colours = pure_colours(tokenizer.quantizer.words.device)
    back, _ = coded(tokenizer, colours.expand(-1, 3, FLAT_SIDE, FLAT_SIDE).contiguous())
    pixels = (255 * back).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    fields = [judge(name, np.ascontiguousarray(one)) for name, one in zip(COLOURS, pixels, strict=True)]
    return {
        "flat_unevenness": max(field.unevenness for field in fields),
        "flat_difference": max(field.difference for field in fields),
    }
