"""The prior: a multi-stage transformer that predicts every token of a stage from the tokens of the stages before it.

It follows the multi-stage transformer of UIGC (ICME 2024), built of dyadic blocks (:mod:`uigc.export.modules.dyadic`),
with attention in windows of 16x16 tokens that shift by half a window in every second block (after Swin, ICCV 2021) and
a schedule of six stages over 4x4 tiles.

A stage computes only on its *active* positions: those already known and those that it predicts (*asked*). They are the
rows of one matrix, the *stream*. Behind its product for queries, keys and values, the last block computes the asked
rows alone. To shift the windows is to read the stream's rows in another order;
:mod:`uigc.export.modules.windows` has the drawing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uigc.export.modules import dyadic
from uigc.export.modules.windows import (
    Layout,
    RowOrders,
    relative_index,
    shift_distance,
    shifted_attention,
    window_shifts,
)
from uigc.runtime.format.bitstream import MAX_SIDE, PATCH
from uigc.runtime.format.schedule import Schedule

# Raised whenever the arithmetic of the modules changes in a way that changes symbols; it is part of the prior's id.
ARITHMETIC = 3


@dataclass(frozen=True)
class PriorConfig:
    """The size of a prior: ``codebook`` codewords, ``width`` channels (a power of two), ``layers`` blocks of ``heads``
    heads, windows of ``window`` x ``window`` tokens, and an MLP that is ``expansion`` times as wide."""

    codebook: int = 256
    width: int = 256
    layers: int = 4
    heads: int = 4
    expansion: int = 2
    window: int = 16

    @property
    def unknown(self) -> int:
        """The token of a position that is yet to be predicted, or was lost."""
        return self.codebook

    @property
    def pad(self) -> int:
        """The token of a position outside the image."""
        return self.codebook + 1

    def to_json(self) -> dict[str, int]:
        return {**asdict(self), "arithmetic": ARITHMETIC}


def local_scores(heads: int, window: int) -> Tensor:
    """Return initial score biases (heads, (2 * window - 1)^2): each head prefers tokens near by, at its own scale."""
    axis = torch.arange(1 - window, window, dtype=torch.float32)
    distance = torch.hypot(axis[:, None], axis[None, :]).flatten()
    reach = window ** (torch.arange(1, heads + 1, dtype=torch.float32) / heads) / 2
    return (0.75 - 0.5 * distance / reach[:, None]).clamp_min(-2.0)


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Return ``x[rows]``, as an embedding, whose gradient is the fastest that PyTorch has."""
    return F.embedding(rows, x)


class Attention(nn.Module):
    """Attention of the tokens of each window to each other."""

    def __init__(self, config: PriorConfig, blocks: ModuleType) -> None:
        super().__init__()
        self.heads = config.heads
        self.activation, self.attend = blocks.activation, blocks.attend
        self.qkv = blocks.Linear(config.width, 3 * config.width, bias=True)
        with torch.no_grad():  # queries and keys begin small, so that attention begins as an average of near tokens
            self.qkv.weight[: 2 * config.width] *= 0.5
        self.scores = blocks.score_table(local_scores(config.heads, config.window))
        self.norm = blocks.context_norm(config.width)
        self.out = blocks.Linear(config.width, config.width, blocks.RESIDUAL, gain=0.5)

    def forward(
        self, x: Tensor, layout: Layout, index: Tensor, mask: Tensor | None, asked: Tensor | None = None
    ) -> Tensor:
        """Return what is added to the rows ``x`` (rows, width), which are in the order of ``layout``; if ``asked`` (m,)
        names tokens of a window, what is added to theirs."""
        width = x.shape[1]
        # From rows to (batch, lines, columns, heads, tokens, width of a head).
        shape = layout.batch, layout.lines, layout.columns, layout.tokens, 3 * self.heads, width // self.heads
        query, key, value = self.activation(self.qkv(x)).view(shape).transpose(3, 4).split(self.heads, 3)
        # Give each pair of tokens the learned bias of its offset.
        scores = self.scores().index_select(1, index.flatten()).view(self.heads, *index.shape)
        if asked is not None:
            query, scores = query.index_select(4, asked), scores.index_select(1, asked)
            mask = None if mask is None else mask.index_select(3, asked)
        context = self.attend(query, key, value, scores, mask)
        out: Tensor = self.out(self.norm(context.transpose(3, 4).reshape(-1, width)))
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

    def forward(
        self, x: Tensor, layout: Layout, index: Tensor, mask: Tensor | None, asked: Tensor | None = None
    ) -> Tensor:
        """Return the next rows of the stream; those of the ``asked`` tokens alone, if these are named."""
        added = self.attention(self.attention_norm(x), layout, index, mask, asked)
        x = self.residual((x if asked is None else layout.asked_rows(x)) + added)
        hidden = self.positive_activation(self.up(self.mlp_norm(x)))
        return self.residual(x + self.down(hidden))


class Prior(nn.Module):
    """The weights, which all stages share. Call it with a stage, or wrap it in :class:`Stage` for tracing."""

    def __init__(self, config: PriorConfig, schedule: Schedule, blocks: ModuleType = dyadic) -> None:
        """``blocks``: the module of the building blocks; the ``floating`` ones are for comparison only."""
        super().__init__()
        self.config, self.schedule = config, schedule
        self.mask, self.logits, self._freeze, self.logit = blocks.mask, blocks.logits, blocks.freeze, blocks.LOGIT
        tile, width = schedule.tile, config.width
        self.tokens = blocks.residual_table(torch.randn(config.codebook + 2, width) * 0.7)
        self.places = blocks.residual_table(torch.randn(len(schedule) * tile * tile, width) * 0.1)
        self.blocks = nn.ModuleList(Block(config, blocks) for _ in range(config.layers))
        self.norm = blocks.residual_norm(width)
        # The head begins small: random logits would have to be unlearned before anything else is learned.
        self.head = blocks.Linear(width, config.codebook, blocks.LOGIT, gain=0.1)
        self.bias = blocks.logit_table(torch.zeros(config.codebook))
        # Buffers: their names are in the exported graphs.
        max_windows = MAX_SIDE // PATCH // config.window  # along a side of the largest image of the format
        self.others: Tensor
        self.register_buffer("others", torch.arange(max_windows).clamp(max=1), persistent=False)
        for stage in range(len(schedule)):
            for name, table in self._indices(stage).items():
                self.register_buffer(f"{name}{stage}", table, persistent=False)

    def _indices(self, stage: int) -> dict[str, Tensor]:
        """Return a stage's tables for the n active positions of a window, tile by tile: ``active`` (n,), their places
        in the window; ``place`` (n,), their rows in the table of places; ``index`` (n, n), each pair's offset in the
        table of scores; ``near``, :func:`shifted_attention`; ``asked``, which of the n are predicted; ``shift``,
        :func:`window_shifts`; ``column``, the first row of each window of a line."""
        tile, window = self.schedule.tile, self.config.window
        per_tile, asked = len(self.schedule.active(stage)), len(self.schedule.stages[stage])
        positions = [
            (down + row, right + column)
            for down in range(0, window, tile)
            for right in range(0, window, tile)
            for row, column in self.schedule.active(stage)
        ]
        rows, columns = torch.tensor(positions).t()
        place = (stage * tile + rows % tile) * tile + columns % tile
        distance = shift_distance(window // tile)
        return {
            "active": (rows * window + columns).to(torch.int32),
            "place": place.to(torch.int32),
            "index": relative_index(positions, window),
            "near": shifted_attention(rows // tile < distance, columns // tile < distance),
            "asked": torch.arange(len(positions)).view(-1, per_tile)[:, -asked:].flatten().to(torch.int32),
            "shift": window_shifts(window // tile, per_tile),
            "column": torch.arange(len(self.others))[:, None] * len(positions),
        }

    def freeze(self) -> Prior:
        self._freeze(self)
        return self

    def forward(self, tokens: Tensor, stage: int) -> Tensor:
        """tokens (batch, height, width), multiples of the window, with ``unknown`` and ``pad`` -> logits in
        steps of ``self.logit`` nats (batch, asked tokens in coding order, codebook)."""
        config, tile = self.config, self.schedule.tile
        active, place, index, near = (getattr(self, f"{name}{stage}") for name in ("active", "place", "index", "near"))
        batch, height, width = tokens.shape
        lines, columns = height // config.window, width // config.window
        per_tile, asked = len(self.schedule.active(stage)), len(self.schedule.stages[stage])
        layout = Layout(batch, lines, columns, config.window // tile, per_tile, asked)
        # Cut the grids into windows, keep the active positions, and embed tokens and places: the rows of the stream.
        windows = tokens.view(batch, lines, config.window, columns, config.window).permute(0, 1, 3, 2, 4)
        windows = windows.reshape(-1, config.window**2).index_select(1, active)
        x = (F.embedding(windows, self.tokens()) + self.places().index_select(0, place)).view(-1, config.width)
        # Run the blocks; the windows of every second one are shifted, and the last one returns the asked rows alone.
        orders, mask = self._row_orders(layout, stage), layout.for_all_windows(self.mask(near), self.others)
        for layer, block in enumerate(self.blocks):
            if layer > 0:
                x = take_rows(x, orders.shift if layer % 2 else orders.unshift)
            few = getattr(self, f"asked{stage}") if layer == len(self.blocks) - 1 and asked < per_tile else None
            x = block(x, layout, index, mask if layer % 2 else None, few)
        # Predict the asked tokens.
        return self.logits(self.head(self.norm(take_rows(x, orders.asked))) + self.bias())

    def _row_orders(self, layout: Layout, stage: int) -> RowOrders:
        shift, column = (getattr(self, f"{name}{stage}") for name in ("shift", "column"))
        # The source of each token is a line of windows, of all grids below each other, and a row in this line.
        lines, line = layout.batch * layout.lines, layout.columns * layout.tokens
        down = torch.arange(lines, device=shift.device).view(-1, 1, 1) + shift[:, :1, None]
        right = column.narrow(0, 0, layout.columns) + shift[:, 1:, None]
        found = (torch.remainder(down, lines) * line + torch.remainder(right, line)).view(2, -1)
        there, back = found[0], found[1]
        # An even number of blocks ends with shifted windows.
        last = back if len(self.blocks) % 2 == 0 else torch.arange(lines * line, device=shift.device)
        return RowOrders(there, back, layout.in_coding_order(last))


class Stage(nn.Module):
    """One stage of a frozen prior, in the form that is exported."""

    def __init__(self, prior: Prior, stage: int) -> None:
        super().__init__()
        self.prior, self.stage = prior, stage

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens int32 (batch, height, width) -> logits int32 (batch, asked, codebook) in steps of 1/32 nat."""
        return self.prior(tokens, self.stage).to(torch.int32)
