"""The mask modes in PyTorch: the tokens lost in training, and the grids that decoders make of them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from uigc.export.modules.prior import Prior
from uigc.runtime.format import regeneration
from uigc.runtime.format.block_choice import in_steps, lost_blocks
from uigc.runtime.format.entropy_coder import weight_table
from uigc.runtime.format.mask import BLOCK, Mask, block_shape, sent_tokens
from uigc.runtime.format.mask_coding import count_table
from uigc.runtime.format.mask_mode import MaskMode
from uigc.runtime.format.schedule import Schedule

LOSSY = [mode for mode in MaskMode if mode is not MaskMode.ENTIRE]
LOSSY_SHARE = 0.5  # of the windows
SCATTERED_SHARE = 0.5  # of those: tokens are lost anywhere, as in UIGC's training; else as the mask modes lose them
LARGEST_SCATTERED = 0.75  # share of the tokens
LARGEST_KEPT = 0.5  # share of the blocks that an encoder keeps


def stage_grid(schedule: Schedule, tokens: Tensor) -> Tensor:
    """Return the stage of each position of ``tokens`` (B, H, W): int8 (H, W)."""
    return torch.from_numpy(schedule.stage_of(tokens.shape[1], tokens.shape[2])).to(tokens.device)


def draw_lost(schedule: Schedule, tokens: Tensor) -> Tensor:
    """Draw which of ``tokens`` (B, H, W) are lost: bool.

    Part of the windows lose nothing. Part lose tokens as the mask modes would, in blocks of 2x2 off the edges, a random
    share of the blocks lying on edges. The others lose a random share of up to 0.75 anywhere (UIGC, ICME 2024).
    """
    batch, height, width = tokens.shape
    device = tokens.device
    first_lost = [schedule.leading(mode.share_off_edges) for mode in LOSSY]
    pick = torch.tensor(first_lost, device=device)[torch.randint(len(first_lost), (batch, 1, 1), device=device)]
    share = torch.rand(batch, 1, 1, device=device)
    edge = torch.rand((batch, height // BLOCK, width // BLOCK), device=device) < share
    edge = edge.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)
    masked = (stage_grid(schedule, tokens) >= pick) & ~edge
    ratio = LARGEST_SCATTERED * torch.rand(batch, 1, 1, device=device)
    scattered = torch.rand(tokens.shape, device=device) < ratio
    kind = torch.rand(batch, 1, 1, device=device)
    lost = torch.where(kind < LOSSY_SHARE * SCATTERED_SHARE, scattered, masked)
    return lost & (kind < LOSSY_SHARE)


@torch.no_grad()
def regenerate(prior: Prior, tokens: Tensor, lost: Tensor, numbers: Tensor | None = None) -> Tensor:
    """``tokens`` int64 (B, H, W), multiples of the window, with those that are ``lost`` (bool) replaced by the prior's
    most likely ones, or by those drawn with ``numbers`` int64 (B, H, W), as the runtime does it: stage by stage, and
    never fed back."""
    config, schedule = prior.config, prior.schedule
    real, stages = tokens != config.pad, stage_grid(schedule, tokens)
    result = tokens.clone()
    for stage, positions in enumerate(schedule.stages):
        if not bool((lost & real & (stages == stage)).any()):
            continue
        context = torch.where(real & (lost | (stages >= stage)), config.unknown, tokens)
        logits = prior(context, stage)
        made = logits.argmax(-1) if numbers is None else _drawn(logits, gathered(numbers, positions, schedule.tile))
        grid = _scattered(tokens, made, positions, schedule.tile)
        result = torch.where(lost & real & (stages == stage), grid, result)
    return result


def _drawn(logits: Tensor, numbers: Tensor) -> Tensor:
    """Logits (B, asked, codebook) in steps and a number for each -> tokens (B, asked)."""
    rows = logits.to(torch.int32).flatten(0, 1).cpu().numpy()
    tokens = regeneration.drawn(rows, numbers.flatten().cpu().numpy(), weight_table())
    return torch.from_numpy(tokens).to(logits.device).long().view(logits.shape[:2])


def gathered(grid: Tensor, positions: Sequence[tuple[int, int]], tile: int) -> Tensor:
    """Return the values (B, asked) of ``grid`` (B, H, W) at a stage's positions, in coding order."""
    batch, height, width = grid.shape
    rows, columns = (list(axis) for axis in zip(*positions, strict=True))
    tiles = grid.view(batch, height // tile, tile, width // tile, tile)
    return tiles.permute(0, 1, 3, 2, 4)[..., rows, columns].reshape(batch, -1)


def _scattered(tokens: Tensor, values: Tensor, positions: Sequence[tuple[int, int]], tile: int) -> Tensor:
    """``values`` (B, asked) of a stage, in coding order, at their places in a grid like ``tokens``."""
    batch, height, width = tokens.shape
    tiles = tokens.new_zeros(batch, height // tile, width // tile, tile, tile)
    rows, columns = (list(axis) for axis in zip(*positions, strict=True))
    tiles[..., rows, columns] = values.view(batch, height // tile, width // tile, len(positions))
    return tiles.permute(0, 1, 3, 2, 4).reshape(batch, height, width)


def pad_to_windows(grids: Tensor, window: int, value: int) -> Tensor:
    """Extend grids (..., H, W) to whole windows, at the bottom and the right; as ``format/grid.py`` does in numpy."""
    height, width = grids.shape[-2:]
    return F.pad(grids, (0, -width % window, 0, -height % window), value=value)


class Masker:
    """The work of an encoder with ``mask`` on a grid of tokens (h, w); ``codewords`` (codebook, dim)."""

    def __init__(self, prior: Prior, codewords: Tensor, tokens: Tensor, mask: Mask) -> None:
        self.prior, self.codewords, self.tokens, self.mask = prior, codewords, tokens, mask
        self._window = prior.config.window
        self._padded = pad_to_windows(tokens.long(), self._window, prior.config.pad)[None]

    def kept(self) -> Tensor:
        """Return the bits of the blocks (ceil(h/2), ceil(w/2)) that are sent whole."""
        made = self.back(torch.zeros(block_shape(*self.tokens.shape), dtype=torch.bool))
        steps = in_steps(self.codewords.cpu().numpy())
        return torch.from_numpy(lost_blocks(self.tokens.cpu().numpy(), made.cpu().numpy(), steps, self.mask.share))

    def back(self, kept: Tensor) -> Tensor:
        """Return the grid (h, w) that a decoder ends with."""
        rows, columns = self.tokens.shape
        sent = torch.from_numpy(sent_tokens(self.mask.mode, kept.numpy(), self.prior.schedule, rows, columns))
        lost = pad_to_windows(~sent[None].to(self.tokens.device), self._window, False)
        numbers = None
        if self.mask.seed is not None:
            chances = torch.from_numpy(regeneration.random_numbers(self.mask.seed, rows, columns))
            numbers = pad_to_windows(chances[None], self._window, 0)
        return regenerate(self.prior, self._padded, lost, numbers)[0, :rows, :columns]


def draw_mask(rng: random.Random) -> Mask:
    """Draw a mask that loses tokens: half of the time with the image's own share of blocks, else with any."""
    return Mask(rng.choice(LOSSY), None if rng.random() < 0.5 else rng.uniform(0, LARGEST_KEPT))


def count_mask_bits(prior: Prior, codewords: Tensor, grids: Sequence[Tensor], rng: random.Random) -> Tensor:
    """Return the table int32 (1024,) for coding edge bits, counted on the blocks that encoders keep of token grids."""
    kept = [Masker(prior, codewords, grid, draw_mask(rng)).kept() for grid in grids]
    return torch.from_numpy(count_table([bits.numpy() for bits in kept]))
