"""Photographs as a decoder gets them: part of the tokens lost the way the mask modes lose them, and regenerated.

The published system never trained its pixel decoder on such grids. They are made once, because the prior's six calls
cost more than a step of training.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from uigc.export.modules.interface import VQTokenizer
from uigc.export.modules.prior import Prior
from uigc.runtime.format.bitstream import PATCH
from uigc.runtime.format.regeneration import SEEDS
from uigc.training.masks import Masker, draw_mask

DRAWN_SHARE = 1 / 3


@dataclass(frozen=True)
class Crop:
    """A photograph uint8 (3, 16 h, 16 w), and its token grid int16 (h, w) with lost tokens regenerated."""

    image: Tensor
    tokens: Tensor


def crop_with_losses(tokenizer: VQTokenizer, prior: Prior, image: Tensor, rng: random.Random) -> Crop:
    """A photograph uint8 (3, H, W) cut at a random phase, under a random mask that loses tokens; now and then they are
    drawn."""
    _, height, width = image.shape
    top, left = rng.randint(0, height % PATCH), rng.randint(0, width % PATCH)
    image = image[:, top : top + height // PATCH * PATCH, left : left + width // PATCH * PATCH]
    with torch.no_grad():
        tokens = tokenizer.quantizer.assign(tokenizer.encoder(image[None].float() / 255))[0]
    mask = replace(draw_mask(rng), seed=rng.randrange(SEEDS) if rng.random() < DRAWN_SHARE else None)
    masker = Masker(prior, tokenizer.quantizer.words, tokens, mask)
    return Crop(image, masker.back(masker.kept()).to(torch.int16))


def crops_with_losses(tokenizer: VQTokenizer, prior: Prior, images: Sequence[Tensor], rng: random.Random) -> list[Crop]:
    return [
        crop_with_losses(tokenizer, prior, image, rng) for image in tqdm(images, desc="regenerating", unit="images")
    ]


def draw(made: Sequence[Crop], count: int, size: int, rng: random.Random) -> tuple[Tensor, Tensor]:
    """Random crops along the token grid: images (count, 3, size, size) in [0, 1] and their tokens int64."""
    images, grids, side = [], [], size // PATCH
    for _ in range(count):
        chosen = rng.choice(made)
        rows, columns = chosen.tokens.shape
        top, left = rng.randint(0, rows - side), rng.randint(0, columns - side)
        grids.append(chosen.tokens[top : top + side, left : left + side])
        pixels = slice(PATCH * top, PATCH * (top + side)), slice(PATCH * left, PATCH * (left + side))
        images.append(chosen.image[:, pixels[0], pixels[1]])
    return torch.stack(images).float() / 255, torch.stack(grids).long()
