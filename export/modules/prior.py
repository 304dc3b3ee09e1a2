"""The prior: a multi-stage transformer that predicts every token of a stage from the tokens of the stages before it.

After the multi-stage transformer of UIGC (ICME 2024), built of dyadic blocks (see :mod:`uigc.export.modules.dyadic`),
with attention in windows of 16x16 tokens that shift by half a window in every second block (after Swin, ICCV 2021) and
a schedule of six stages over 4x4 tiles.

A stage computes only on its *active* positions: those already known and those it asks for. They are the rows of one
matrix, window by window; a shift of the windows is another order of the rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uigc.export.modules import dyadic
from uigc.runtime.format.bitstream import MAX_SIDE, PATCH
from uigc.runtime.format.schedule import Schedule

# Raised whenever the arithmetic of the modules changes in a way that changes symbols; it is part of the prior's id.
ARITHMETIC = 3


@dataclass(frozen=True)
class PriorConfig:
    """``codebook`` words, ``width`` channels (a power of two), ``layers`` blocks of ``heads`` heads; ``window`` tokens
    square; the MLP is ``expansion`` times as wide."""

    codebook: int = 256
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
        """Token of a position outside the image."""
        return self.codebook + 1

    def to_json(self) -> dict[str, int]:
        return {**asdict(self), "arithmetic": ARITHMETIC}


def relative_index(positions: list[tuple[int, int]], window: int) -> Tensor:
    """Index (n, n) into a table of (2 * window - 1)^2 offsets for n (row, column) positions of a window."""
    rows, columns = (torch.tensor(axis) for axis in zip(*positions, strict=True))
    dy = rows[:, None] - rows[None, :] + window - 1
    dx = columns[:, None] - columns[None, :] + window - 1
    return (dy * (2 * window - 1) + dx).to(torch.int32)


def half(side: int) -> int:
    """How many tiles windows of ``side`` tiles shift: half of them, rounded up."""
    return side - side // 2


def neighbours(above: Tensor, left: Tensor) -> Tensor:
    """Which of n tokens of a shifted window may see each other: bool (2, 2, 1, n, n), entry 0 of the first axis for the
    first row of windows, of the second for their first column, entry 1 for the others.

    Shifting brings the far edge of the grid next to the near one: in the first row of windows the tokens ``above``, in
    the first column those ``left``, come from there, and see only each other.
    """
    same_row, same_column = (side[:, None] == side[None, :] for side in (above, left))
    anywhere = torch.ones_like(same_row)
    kinds = torch.stack([torch.stack([same_row & same_column, same_row]), torch.stack([same_column, anywhere])])
    return kinds[:, :, None]


def local_scores(heads: int, window: int) -> Tensor:
    """Initial score biases (heads, (2 * window - 1)^2): every head prefers its neighbourhood, each at another reach."""
    axis = torch.arange(1 - window, window, dtype=torch.float32)
    distance = torch.hypot(axis[:, None], axis[None, :]).flatten()
    reach = window ** (torch.arange(1, heads + 1, dtype=torch.float32) / heads) / 2
    return (0.75 - 0.5 * distance / reach[:, None]).clamp_min(-2.0)


@dataclass(frozen=True)
class Layout:
    """How tokens lie in the rows of a stream: grid by grid of the batch, window by window (``tall`` x ``wide`` of
    them), tile by tile (``side`` x ``side`` of a window), and ``each`` tokens of a tile."""

    batch: int
    tall: int
    wide: int
    side: int
    each: int

    @property
    def tokens(self) -> int:
        """Of a window."""
        return self.side * self.side * self.each

    def image(self, rows: Tensor, count: int) -> Tensor:
        """The last ``count`` rows of each tile, in the order in which the tiles lie in the image: (batch, asked)."""
        shape = self.batch, self.tall, self.wide, self.side, self.side, self.each
        return rows.view(shape)[..., -count:].transpose(2, 3).reshape(self.batch, -1)

    def far(self, table: Tensor, others: Tensor) -> Tensor:
        """A table (2, 2, ...), whose entry 0 of an axis is for the first row or column of windows and whose entry 1
        for the others, for all of them (tall, wide, ...). ``others`` (at least as many,): 0, and then only 1."""
        down, right = (others.narrow(0, 0, count) for count in (self.tall, self.wide))
        return table.index_select(0, down).index_select(1, right)


def shifts(side: int, each: int) -> Tensor:
    """Where the n tokens of a window are found when windows shift up and left by half their side, and when they shift
    back: (2, 2, n). Entry 0 of the second axis: how many lines of windows further down; entry 1: how many rows of the
    stream after the first of the window in their place."""
    tile = torch.arange(side)
    down, right, which = torch.meshgrid(tile, tile, torch.arange(each), indexing="ij")
    found = []
    for distance in (-half(side), half(side)):
        y, x = down + distance, right + distance
        inside = (y % side * side + x % side) * each + which
        found.append(torch.stack([y // side, x // side * side * side * each + inside]).flatten(1))
    return torch.stack(found)


@dataclass(frozen=True)
class Moves:
    """Rows of a stream in another order: ``there`` moves the windows up and left by half a window, ``back`` down and
    right again; ``out`` (batch, asked) are the asked tokens in coding order, after the last block.

    The plane wraps around: at its left and right edge line by line, at its upper and lower edge as if the images of
    the batch lay one below the other. What comes from over an edge sees nothing but itself (:func:`neighbours`).
    """

    there: Tensor
    back: Tensor
    out: Tensor


def moved(x: Tensor, rows: Tensor) -> Tensor:
    """``x[rows]``, as a lookup: its gradient is the fastest that PyTorch has."""
    return F.embedding(rows, x)


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

    def forward(self, x: Tensor, layout: Layout, index: Tensor, mask: Tensor | None) -> Tensor:
        """Rows (rows, width), in the order of the layout -> what is added to them."""
        width = x.shape[1]
        shape = layout.batch, layout.tall, layout.wide, layout.tokens, 3 * self.heads, width // self.heads
        query, key, value = self.activation(self.qkv(x)).view(shape).transpose(3, 4).split(self.heads, 3)
        scores = self.scores().index_select(1, index.flatten()).view(self.heads, *index.shape)
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

    def forward(self, x: Tensor, layout: Layout, index: Tensor, mask: Tensor | None) -> Tensor:
        x = self.residual(x + self.attention(self.attention_norm(x), layout, index, mask))
        hidden = self.positive_activation(self.up(self.mlp_norm(x)))
        return self.residual(x + self.down(hidden))


class Prior(nn.Module):
    """Weights shared by all stages; call it with a stage, or take :class:`Stage` for tracing."""

    def __init__(self, config: PriorConfig, schedule: Schedule, blocks: ModuleType = dyadic) -> None:
        """``blocks``: what it is built of; other than dyadic ones are for comparison."""
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
        most = MAX_SIDE // PATCH // config.window  # windows along a side of the largest image of the format
        self.others: Tensor
        self.register_buffer("others", torch.arange(most).clamp(max=1), persistent=False)
        for stage in range(len(schedule)):
            for name, table in self._indices(stage).items():
                self.register_buffer(f"{name}{stage}", table, persistent=False)

    def _indices(self, stage: int) -> dict[str, Tensor]:
        """What a stage looks up, for the n active positions of a window, tile by tile: ``active``, where they lie in
        the window (n,); ``place``, their rows in the table of places (n,); ``index``, their pairs' rows in the tables
        of scores (n, n); ``near``, which pairs are neighbours in a shifted window (see :func:`neighbours`)."""
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
            "near": neighbours(rows // tile < half(window // tile), columns // tile < half(window // tile)),
            "shift": shifts(window // tile, len(self.schedule.active(stage))),
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
        tall, wide = height // config.window, width // config.window
        layout = Layout(batch, tall, wide, config.window // tile, len(self.schedule.active(stage)))
        windows = tokens.view(batch, tall, config.window, wide, config.window).permute(0, 1, 3, 2, 4)
        windows = windows.reshape(-1, config.window**2).index_select(1, active)
        x = (F.embedding(windows, self.tokens()) + self.places().index_select(0, place)).view(-1, config.width)
        moves, mask = self._moves(layout, stage), layout.far(self.mask(near), self.others)
        for layer, block in enumerate(self.blocks):
            if layer > 0:  # every second block's windows are shifted
                x = moved(x, moves.there if layer % 2 else moves.back)
            x = block(x, layout, index, mask if layer % 2 else None)
        return self.logits(self.head(self.norm(moved(x, moves.out))) + self.bias())

    def _moves(self, layout: Layout, stage: int) -> Moves:
        shift, column = (getattr(self, f"{name}{stage}") for name in ("shift", "column"))
        lines, line = layout.batch * layout.tall, layout.wide * layout.tokens
        down = torch.arange(lines, device=shift.device).view(-1, 1, 1) + shift[:, :1, None]
        right = column.narrow(0, 0, layout.wide) + shift[:, 1:, None]
        found = (torch.remainder(down, lines) * line + torch.remainder(right, line)).view(2, -1)
        there, back = found[0], found[1]
        last = back if len(self.blocks) % 2 == 0 else torch.arange(lines * line, device=shift.device)
        return Moves(there, back, layout.image(last, len(self.schedule.stages[stage])))


class Stage(nn.Module):
    """One stage of a frozen prior as it is exported."""

    def __init__(self, prior: Prior, stage: int) -> None:
        super().__init__()
        self.prior, self.stage = prior, stage

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens int32 (batch, height, width) -> logits int32 (batch, asked, codebook) in steps of 1/32 nat."""
        return self.prior(tokens, self.stage).to(torch.int32)
