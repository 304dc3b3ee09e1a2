"""The prior: a multi-stage transformer that predicts every token of a stage from the tokens of the stages before it.

After the multi-stage transformer of UIGC (ICME 2024), built of dyadic blocks (see :mod:`uigc.export.modules.dyadic`),
with attention in windows of 16x16 tokens that shift by half a window in every second block (after Swin, ICCV 2021) and
a schedule of six stages over 4x4 tiles.

A stage computes only on its *active* positions: those already known and those it asks for. Activations are held as
(batch, windows, active positions of a window, width); a shift of the windows is a shift of whole tiles.
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


@dataclass(frozen=True)
class Layout:
    """How the positions of a grid lie in a tensor: ``tall`` x ``wide`` windows of ``side`` x ``side`` tiles.

    Two forms change places: (batch, windows, tiles of a window, channels), in which tokens attend to each other, and
    (batch, tile rows, tile columns, channels), in which windows shift. No tensor has more than eight dimensions, which
    is all that TensorRT takes.
    """

    tall: int
    wide: int
    side: int

    def grid(self, x: Tensor) -> Tensor:
        """Windows to tile rows and columns."""
        batch, channels = x.shape[0], x.shape[3]
        x = x.view(batch, self.tall, self.wide, self.side, self.side, channels).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(batch, self.tall * self.side, self.wide * self.side, channels)

    def windows(self, x: Tensor) -> Tensor:
        """Tile rows and columns to windows."""
        batch, channels = x.shape[0], x.shape[3]
        x = x.view(batch, self.tall, self.side, self.wide, self.side, channels).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(batch, self.tall * self.wide, self.side * self.side, channels)

    def shifted(self, x: Tensor, shift: int) -> Tensor:
        """(batch, windows, n, width) with the windows moved down and right by ``shift`` tiles; n is whole tiles."""
        batch, count, tokens, width = x.shape
        tiles = self.side * self.side
        x = self.windows(roll(self.grid(x.view(batch, count, tiles, tokens // tiles * width)), shift))
        return x.view(batch, count, tokens, width)

    def mask(self, shift: int, active: int, like: Tensor) -> Tensor:
        """Mask (windows, 1, n, n) of 0 and 1 after a shift; ``active`` tokens of each tile, n = side * side * active.

        Shifting brings the far edge of the grid next to the near one; tokens of a window see each other only where
        they were neighbours before. Only the last row and the last column of windows hold such.
        """
        lowest = (torch.arange(self.tall, device=like.device) >= self.tall - 1).to(like.dtype)
        last = (torch.arange(self.wide, device=like.device) >= self.wide - 1).to(like.dtype)
        beyond = (torch.arange(self.side, device=like.device) >= self.side - shift).to(like.dtype)
        below = beyond[:, None, None].expand(-1, self.side, active).flatten()
        right = beyond[None, :, None].expand(self.side, -1, active).flatten()
        region = 2 * lowest[:, None, None] * below + last[:, None] * right
        region = region.view(self.tall * self.wide, below.numel())
        return (region[:, None, :, None] == region[:, None, None, :]).to(like.dtype)


def roll(x: Tensor, shift: int) -> Tensor:
    """Rows and columns (dimensions 1 and 2) moved up and left by ``shift``; written out, it traces to static slices."""
    x = torch.cat([x[:, shift:], x[:, :shift]], 1)
    return torch.cat([x[:, :, shift:], x[:, :, :shift]], 2)


class Attention(nn.Module):
    """Attention of the tokens of each window to each other."""

    def __init__(self, config: PriorConfig, blocks: ModuleType) -> None:
        super().__init__()
        self.heads = config.heads
        self.activation, self.attend = blocks.activation, blocks.attend
        self.qkv = blocks.Linear(config.width, 3 * config.width, bias=True)
        with torch.no_grad():  # queries and keys begin small, so that attention begins as an average of neighbours
            self.qkv.weight[: 2 * config.width] *= 0.5
        self.scores = blocks.score_table(local_scores(config.heads, config.window))
        self.norm = blocks.context_norm(config.width)
        self.out = blocks.Linear(config.width, config.width, blocks.RESIDUAL, gain=0.5)

    def forward(self, x: Tensor, index: Tensor, mask: Tensor | None) -> Tensor:
        batch, windows, tokens, width = x.shape
        qkv = self.activation(self.qkv(x)).view(batch, windows, tokens, 3, self.heads, width // self.heads)
        query, key, value = (qkv.permute(3, 0, 1, 4, 2, 5)[part] for part in range(3))
        scores = self.scores().index_select(1, index.flatten()).view(self.heads, *index.shape)
        context = self.attend(query, key, value, scores, mask)
        out: Tensor = self.out(self.norm(context.transpose(2, 3).reshape(batch, windows, tokens, width)))
        return out


class Block(nn.Module):
    def __init__(self, config: PriorConfig, blocks: ModuleType) -> None:
        super().__init__()
        self.residual, self.positive_activation = blocks.residual, blocks.positive_activation
        self.attention_norm = blocks.residual_norm(config.width)
        self.attention = Attention(config, blocks)
        self.mlp_norm = blocks.residual_norm(config.width)
        self.up = blocks.Linear(config.width, config.expansion * config.width, bias=True)
        self.down = blocks.Linear(config.expansion * config.width, config.width, blocks.RESIDUAL, gain=0.5)

    def forward(self, x: Tensor, index: Tensor, mask: Tensor | None) -> Tensor:
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
        self.blocks = nn.ModuleList(Block(config, blocks) for _ in range(config.layers))
        self.norm = blocks.residual_norm(width)
        # The head begins small: random logits would have to be unlearned before anything else is learned.
        self.head = blocks.Linear(width, config.codebook, blocks.LOGIT, gain=0.1)
        self.bias = blocks.logit_table(torch.zeros(config.codebook))
        for stage in range(len(schedule)):
            for name, table in self._indices(stage).items():
                self.register_buffer(f"{name}{stage}", table, persistent=False)

    def _indices(self, stage: int) -> dict[str, Tensor]:
        """What a stage looks up, for the n active positions of a window, tile by tile: ``active``, where they lie in
        the window (n,); ``place``, their rows in the table of places (n,); ``index``, their pairs' rows in the tables
        of scores (n, n)."""
        tile, window = self.schedule.tile, self.config.window
        positions = [
            (down + row, right + column)
            for down in range(0, window, tile)
            for right in range(0, window, tile)
            for row, column in self.schedule.active(stage)
        ]
        rows, columns = torch.tensor(positions).t()
        place = (stage * tile + rows % tile) * tile + columns % tile
        return {
            "active": (rows * window + columns).to(torch.int32),
            "place": place.to(torch.int32),
            "index": relative_index(positions, window),
        }

    def freeze(self) -> Prior:
        self._freeze(self)
        return self

    def forward(self, tokens: Tensor, stage: int) -> Tensor:
        """tokens (batch, height, width), multiples of the window, with ``unknown`` and ``pad`` -> logits in
        steps of ``self.logit`` nats (batch, asked tokens in coding order, codebook)."""
        config, tile = self.config, self.schedule.tile
        active, place, index = (getattr(self, f"{name}{stage}") for name in ("active", "place", "index"))
        batch, height, width = tokens.shape
        layout = Layout(height // config.window, width // config.window, config.window // tile)
        windows = tokens.view(batch, layout.tall, config.window, layout.wide, config.window).permute(0, 1, 3, 2, 4)
        windows = windows.reshape(batch, layout.tall * layout.wide, config.window**2).index_select(2, active)
        x = self.residual(F.embedding(windows, self.tokens()) + self.places().index_select(0, place))
        shift, each = layout.side // 2, len(self.schedule.active(stage))
        mask = layout.mask(shift, each, x)
        for layer, block in enumerate(self.blocks):
            if layer > 0:  # every second block's windows are shifted
                x = layout.shifted(x, shift if layer % 2 else -shift)
            x = block(x, index, mask if layer % 2 else None)
        asked = x.view(*x.shape[:2], layout.side**2, each, config.width)[:, :, :, -len(self.schedule.stages[stage]) :]
        grid = layout.grid(asked.flatten(3))
        if len(self.blocks) % 2 == 0:
            grid = roll(grid, -shift)
        return self.logits(self.head(self.norm(grid.reshape(batch, -1, config.width))) + self.bias())


class Stage(nn.Module):
    """One stage of a frozen prior as it is exported."""

    def __init__(self, prior: Prior, stage: int) -> None:
        super().__init__()
        self.prior, self.stage = prior, stage

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens int32 (batch, height, width) -> logits int32 (batch, asked, codebook) in steps of 1/32 nat."""
        return self.prior(tokens, self.stage).to(torch.int32)
