"""Photographs as a decoder gets them: part of the tokens lost the way the mask modes lose them, and regenerated.

The published system never trained its pixel decoder on such grids. They are made once, because the prior's six calls
cost more than a step of training.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from uigc.export.modules.prior import Prior
from uigc.export.modules.tokenizer import Tokenizer
from uigc.runtime.manifest import PATCH
from uigc.runtime.mask import MaskMode, edge_blocks, sent_tokens
from uigc.training.prior import stage_grid

LOSSY = [mode for mode in MaskMode if mode is not MaskMode.ENTIRE]


@dataclass(frozen=True)
class Cut:
    """A photograph uint8 (3, 16 h, 16 w), and its token grid int16 (h, w) with lost tokens regenerated."""

    image: Tensor
    tokens: Tensor


@torch.no_grad()
def regenerate(prior: Prior, tokens: Tensor, lost: Tensor) -> Tensor:
    """``tokens`` int64 (B, H, W), multiples of the window, with those that are ``lost`` (bool) replaced by the prior's
    most likely ones, as the runtime does it: stage by stage, and never fed back."""
    config, schedule = prior.config, prior.schedule
    real, stages = tokens != config.pad, stage_grid(schedule, tokens)
    result = tokens.clone()
    for stage, positions in enumerate(schedule.stages):
        if not bool((lost & real & (stages == stage)).any()):
            continue
        context = torch.where(real & (lost | (stages >= stage)), config.unknown, tokens)
        likely = prior(context, stage).argmax(-1)
        grid = _scattered(tokens, likely, positions, schedule.tile)
        result = torch.where(lost & real & (stages == stage), grid, result)
    return result


def _scattered(tokens: Tensor, values: Tensor, positions: Sequence[tuple[int, int]], tile: int) -> Tensor:
    """``values`` (B, asked) of a stage, in coding order, at their places in a grid like ``tokens``."""
    batch, height, width = tokens.shape
    tiles = tokens.new_zeros(batch, height // tile, width // tile, tile, tile)
    rows, columns = (list(axis) for axis in zip(*positions, strict=True))
    tiles[..., rows, columns] = values.view(batch, height // tile, width // tile, len(positions))
    return tiles.permute(0, 1, 3, 2, 4).reshape(batch, height, width)


def cut(tokenizer: Tokenizer, prior: Prior, image: Tensor, rng: random.Random) -> Cut:
    """A photograph uint8 (3, H, W) cut at a random phase, under a random one of the mask modes that lose tokens."""
    _, height, width = image.shape
    top, left = rng.randint(0, height % PATCH), rng.randint(0, width % PATCH)
    image = image[:, top : top + height // PATCH * PATCH, left : left + width // PATCH * PATCH]
    with torch.no_grad():
        tokens = tokenizer.quantizer.assign(tokenizer.encoder(image[None].float() / 255))
    rows, columns = tokens.shape[1:]
    edges = edge_blocks(image.permute(1, 2, 0).cpu().numpy(), PATCH)
    sent = torch.from_numpy(sent_tokens(rng.choice(LOSSY), edges, prior.schedule, rows, columns))
    window = prior.config.window
    border = (0, -columns % window, 0, -rows % window)
    padded = F.pad(tokens.long(), border, value=prior.config.pad)
    lost = F.pad(~sent[None].to(tokens.device), border, value=False)
    return Cut(image, regenerate(prior, padded, lost)[0, :rows, :columns].to(torch.int16))


def cuts(tokenizer: Tokenizer, prior: Prior, images: Sequence[Tensor], rng: random.Random) -> list[Cut]:
    return [cut(tokenizer, prior, image, rng) for image in tqdm(images, desc="regenerating", unit="images")]


def draw(made: Sequence[Cut], count: int, size: int, rng: random.Random) -> tuple[Tensor, Tensor]:
    """Random crops along the token grid: pictures (count, 3, size, size) in [0, 1] and their tokens int64."""
    images, grids, side = [], [], size // PATCH
    for _ in range(count):
        chosen = rng.choice(made)
        rows, columns = chosen.tokens.shape
        top, left = rng.randint(0, rows - side), rng.randint(0, columns - side)
        grids.append(chosen.tokens[top : top + side, left : left + side])
        pixels = slice(PATCH * top, PATCH * (top + side)), slice(PATCH * left, PATCH * (left + side))
        images.append(chosen.image[:, pixels[0], pixels[1]])
    return torch.stack(images).float() / 255, torch.stack(grids).long()
