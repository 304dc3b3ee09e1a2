"""The prior: a multi-stage transformer that predicts every token of a stage from the tokens of the stages before it.

After the multi-stage transformer of UIGC (ICME 2024), built of dyadic blocks (see :mod:`uigc.export.modules.dyadic`),
with attention in windows of 16x16 tokens that shift by half a window in every second block (after Swin, ICCV 2021) and
a schedule of six stages over 4x4 tiles.

A stage computes only on its *active* positions: those already known and those it asks for. Activations are held as
(batch, tile rows, tile columns, active positions of a tile, width), so that a shift is a shift of whole tiles.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uigc.export.modules import dyadic
from uigc.runtime.schedule import Schedule

# Raised whenever the arithmetic of the modules changes in a way that changes symbols; it is part of the prior's id.
ARITHMETIC = 2


@dataclass(frozen=True)
class PriorConfig:
    """``codebook`` words, ``width`` channels (a power of two), ``layers`` blocks of ``heads`` heads; ``window`` tokens
    square; the MLP is ``expansion`` times as wide."""

    codebook: int = 512
    width: int = 256
    layers: int = 4
    heads: int = 4
    expansion: int = 2
    window: int = 16

    @property
    def unknown(self) -> int:
        """Token of a position that is asked for, or was lost."""
        return self.codebook

    @property
    def pad(self) -> int:
        """Token of a position outside the picture."""
        return self.codebook + 1

    def to_json(self) -> dict[str, int]:
        return {**asdict(self), "arithmetic": ARITHMETIC}


def relative_index(positions: list[tuple[int, int]], window: int) -> Tensor:
    """Index (n, n) into a table of (2 * window - 1)^2 offsets for n (row, column) positions of a window."""
    rows, columns = (torch.tensor(axis) for axis in zip(*positions, strict=True))
    dy = rows[:, None] - rows[None, :] + window - 1
    dx = columns[:, None] - columns[None, :] + window - 1
    return (dy * (2 * window - 1) + dx).to(torch.int32)


def local_scores(heads: int, window: int) -> Tensor:
    """Initial score biases (heads, (2 * window - 1)^2): every head prefers its neighbourhood, each at another reach."""
    axis = torch.arange(1 - window, window, dtype=torch.float32)
    distance = torch.hypot(axis[:, None], axis[None, :]).flatten()
    reach = window ** (torch.arange(1, heads + 1, dtype=torch.float32) / heads) / 2
    return (0.75 - 0.5 * distance / reach[:, None]).clamp_min(-2.0)


def shifted_mask(rows: int, columns: int, side: int, shift: int, active: int, like: Tensor) -> Tensor:
    """Mask (windows, 1, n, n) for windows of ``side`` tiles over a grid of tiles that was rolled by ``shift``.

    Rolling brings the far edge of the grid next to the near one; tokens of a window see each other only where they
    were neighbours before. n = side * side * active.
    """
    below = (torch.arange(rows, device=like.device) >= rows - shift).to(like.dtype)
    beyond = (torch.arange(columns, device=like.device) >= columns - shift).to(like.dtype)
    region = 2 * below[:, None] + beyond[None, :]
    region = region.view(rows // side, side, columns // side, side).permute(0, 2, 1, 3)
    region = region.reshape(-1, side * side, 1).expand(-1, -1, active).reshape(-1, side * side * active)
    return (region[:, None, :, None] == region[:, None, None, :]).to(like.dtype)


def roll(x: Tensor, shift: int) -> Tensor:
    """Rows and columns (dimensions 1 and 2) moved up and left by ``shift``; written out, it traces to static slices."""
    x = torch.cat([x[:, shift:], x[:, :shift]], 1)
    return torch.cat([x[:, :, shift:], x[:, :, :shift]], 2)


class Attention(nn.Module):
    """Window attention on tiles; ``shift`` moves the windows by that many tiles."""

    def __init__(self, config: PriorConfig, shift: int, tile: int, blocks: ModuleType) -> None:
        super().__init__()
        self.heads, self.shift, self.side = config.heads, shift, config.window // tile
        self.activation, self.attend = blocks.activation, blocks.attend
        self.qkv = blocks.Linear(config.width, 3 * config.width, bias=True)
        with torch.no_grad():  # queries and keys begin small, so that attention begins as an average of neighbours
            self.qkv.weight[: 2 * config.width] *= 0.5
        self.scores = blocks.score_table(local_scores(config.heads, config.window))
        self.norm = blocks.context_norm(config.width)
        self.out = blocks.Linear(config.width, config.width, blocks.RESIDUAL, gain=0.5)

    def forward(self, x: Tensor, index: Tensor, mask: Tensor) -> Tensor:
        batch, rows, columns, active, width = x.shape
        side, heads = self.side, self.heads
        tall, wide, each = rows // side, columns // side, width // heads
        qkv = self.activation(self.qkv(x))
        if self.shift:
            qkv = roll(qkv, self.shift)
        qkv = qkv.view(batch, tall, side, wide, side, active, 3, heads, each).permute(6, 0, 1, 3, 7, 2, 4, 5, 8)
        query, key, value = qkv.reshape(3, batch, tall * wide, heads, side * side * active, each).unbind(0)
        scores = self.scores().index_select(1, index.flatten()).view(heads, *index.shape)
        context = self.attend(query, key, value, scores, mask if self.shift else None)
        context = context.view(batch, tall, wide, heads, side, side, active, each)
        context = context.permute(0, 1, 4, 2, 5, 6, 3, 7).reshape(batch, rows, columns, active, width)
        if self.shift:
            context = roll(context, -self.shift)
        out: Tensor = self.out(self.norm(context))
        return out


class Block(nn.Module):
    def __init__(self, config: PriorConfig, shift: int, tile: int, blocks: ModuleType) -> None:
        super().__init__()
        self.residual, self.positive_activation = blocks.residual, blocks.positive_activation
        self.attention_norm = blocks.residual_norm(config.width)
        self.attention = Attention(config, shift, tile, blocks)
        self.mlp_norm = blocks.residual_norm(config.width)
        self.up = blocks.Linear(config.width, config.expansion * config.width, bias=True)
        self.down = blocks.Linear(config.expansion * config.width, config.width, blocks.RESIDUAL, gain=0.5)

    def forward(self, x: Tensor, index: Tensor, mask: Tensor) -> Tensor:
        x = self.residual(x + self.attention(self.attention_norm(x), index, mask))
        hidden = self.positive_activation(self.up(self.mlp_norm(x)))
        return self.residual(x + self.down(hidden))


class Prior(nn.Module):
    """Weights shared by all stages; call it with a stage, or take :class:`Stage` for tracing."""

    def __init__(self, config: PriorConfig, schedule: Schedule, blocks: ModuleType = dyadic) -> None:
        """``blocks``: what it is built of; other than dyadic ones are for comparison."""
        super().__init__()
        self.config, self.schedule = config, schedule
        self.residual, self.logits, self._freeze, self.logit = (
            blocks.residual,
            blocks.logits,
            blocks.freeze,
            blocks.LOGIT,
        )
        tile, width = schedule.tile, config.width
        self.tokens = blocks.residual_table(torch.randn(config.codebook + 2, width) * 0.7)
        self.places = blocks.residual_table(torch.randn(len(schedule) * tile * tile, width) * 0.1)
        self.blocks = nn.ModuleList(
            Block(config, (config.window // tile // 2) * (layer % 2), tile, blocks) for layer in range(config.layers)
        )
        self.norm = blocks.residual_norm(width)
        self.head = blocks.Linear(width, config.codebook, blocks.LOGIT)
        self.bias = blocks.logit_table(torch.zeros(config.codebook))
        for stage in range(len(schedule)):
            positions = schedule.active(stage)
            flat = torch.tensor([row * tile + column for row, column in positions], dtype=torch.int32)
            self.register_buffer(f"active{stage}", flat, persistent=False)
            self.register_buffer(f"index{stage}", self._window_index(positions), persistent=False)

    def _window_index(self, positions: tuple[tuple[int, int], ...]) -> Tensor:
        tile, side = self.schedule.tile, self.config.window // self.schedule.tile
        in_window = [
            (tile * down + row, tile * right + column)
            for down in range(side)
            for right in range(side)
            for row, column in positions
        ]
        return relative_index(in_window, self.config.window)

    def freeze(self) -> Prior:
        self._freeze(self)
        return self

    def forward(self, tokens: Tensor, stage: int) -> Tensor:
        """tokens (batch, height, width), multiples of the window, with ``unknown`` and ``pad`` -> logits in
        steps of ``self.logit`` nats (batch, asked tokens in coding order, codebook)."""
        tile = self.schedule.tile
        batch, height, width = tokens.shape
        active: Tensor = getattr(self, f"active{stage}")
        index: Tensor = getattr(self, f"index{stage}")
        tiles = tokens.view(batch, height // tile, tile, width // tile, tile).permute(0, 1, 3, 2, 4)
        tiles = tiles.reshape(batch, height // tile, width // tile, tile * tile).index_select(3, active)
        places = self.places().index_select(0, stage * tile * tile + active)
        x = self.residual(F.embedding(tiles, self.tokens()) + places)
        side = self.config.window // tile
        mask = shifted_mask(height // tile, width // tile, side, side // 2, active.numel(), x)
        for block in self.blocks:
            x = block(x, index, mask)
        asked = x[:, :, :, -len(self.schedule.stages[stage]) :].reshape(batch, -1, self.config.width)
        return self.logits(self.head(self.norm(asked)) + self.bias())


class Stage(nn.Module):
    """One stage of a frozen prior as it is exported."""

    def __init__(self, prior: Prior, stage: int) -> None:
        super().__init__()
        self.prior, self.stage = prior, stage

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens int32 (batch, height, width) -> logits int32 (batch, asked, codebook) in steps of 1/32 nat."""
        return self.prior(tokens, self.stage).to(torch.int32)
