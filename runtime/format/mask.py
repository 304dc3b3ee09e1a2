"""The edge-preserved checkerboard: which tokens a file holds, and how a user asks for them.

After the UIGC paper (ICME 2024): where the image has edges, every token is sent; elsewhere only the white squares of
the checkerboard (``edge``) or a quarter of the tokens (``edge_more``). One edge bit for each block of 2x2 tokens tells
the decoder whether the block lies on an edge and is sent whole. The encoder is free to choose these blocks
(:mod:`~uigc.runtime.format.block_choice`); :mod:`~uigc.runtime.format.mask_coding` writes and reads their bits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from uigc.runtime.arrays import Bits
from uigc.runtime.errors import UsageError
from uigc.runtime.format.mask_mode import MaskMode
from uigc.runtime.format.regeneration import SEEDS
from uigc.runtime.format.schedule import Schedule

BLOCK = 2  # side of a block in tokens
EFFORT = 9  # the largest; see :mod:`~uigc.runtime.block_search`

MODES = {mode.label: mode for mode in MaskMode}
RANKINGS = ("loss", "gradient")
_CHOICE = re.compile(r"(?P<mode>\w+)(:(?P<share>\d*\.?\d+))?(@(?P<by>loss|gradient))?(\+draw(?P<seed>\d{0,3}))?")


@dataclass(frozen=True)
class Mask:
    """An encoder's choice of the tokens to send; a decoder finds mode, edge bits and seed in the file.

    ``share``: the share of the blocks (0..1) that count as edges; None for those above the image's own mean, as in
    the UIGC paper.
    ``by``: how blocks are ranked, by ``loss`` (the default, see :func:`~uigc.runtime.format.block_choice.lost_blocks`)
    or by ``gradient`` (:func:`~uigc.runtime.format.block_choice.edge_blocks`).
    ``seed``: 0..255 to let the decoder draw the tokens that are not sent; None for the most likely ones.
    ``effort``: 1..9, how long the encoder searches for the blocks to send, and from ``seed`` on for a better one. It
    is not part of the text.
    """

    mode: MaskMode
    share: float | None = None
    by: str = "loss"
    seed: int | None = None
    effort: int = 1

    @classmethod
    def parse(cls, choice: Mask | MaskMode | str) -> Mask:
        """Parse a mask from text such as ``edge_more:0.2@gradient+draw7``; a mode stands for its defaults.

        The text is the label of a mode, then optionally a colon and the share, then optionally ``@gradient``, then
        optionally ``+draw`` and a seed (0 if left out).
        """
        if isinstance(choice, Mask):
            return choice
        if isinstance(choice, MaskMode):
            return cls(choice)
        match = _CHOICE.fullmatch(choice) if isinstance(choice, str) else None
        if not match or match["mode"] not in MODES:
            raise UsageError(
                f"There is no mask {choice!r}; choose one of: {', '.join(MODES)}; 'edge' and 'edge_more' may be "
                "followed by the share of blocks to keep, from 0 to 1, as in 'edge_more:0.2', '@gradient' and '+draw'."
            )
        share = float(match["share"]) if match["share"] else None
        seed = None if match["seed"] is None else int(match["seed"] or 0)
        return cls(MODES[match["mode"]], share, match["by"] or "loss", seed)

    def __post_init__(self) -> None:
        is_entire = self.mode is MaskMode.ENTIRE
        check_effort(self.effort)
        valid = (
            isinstance(self.mode, MaskMode)
            and (self.share is None or (_is_number(self.share, Real) and 0 <= self.share <= 1))
            and self.by in RANKINGS
            and (self.seed is None or (_is_number(self.seed, int) and 0 <= self.seed < SEEDS))
            and not (is_entire and (self.share, self.by, self.seed) != (None, "loss", None))
        )
        if not valid:
            raise UsageError(
                f"The mask is not valid with mode {self.mode!r}, share {self.share!r}, by {self.by!r} and seed "
                f"{self.seed!r}: a share is from 0 to 1, blocks are ranked by {' or '.join(RANKINGS)}, a seed is a "
                f"whole number from 0 to {SEEDS - 1}, and 'entire' takes none of them; give another."
            )

    @property
    def label(self) -> str:
        """The text that :meth:`parse` reads as this mask, but for its effort."""
        share = "" if self.share is None else f":{np.format_float_positional(self.share, trim='-')}"
        by = "" if self.by == "loss" else f"@{self.by}"
        draw = "" if self.seed is None else f"+draw{self.seed or ''}"
        return f"{self.mode.label}{share}{by}{draw}"

    @property
    def searches(self) -> bool:
        """Whether an effort above 1 may change anything."""
        if self.mode is MaskMode.ENTIRE or self.share == 1:
            return False
        return self.seed is not None or (self.by == "loss" and self.share != 0)


def check_effort(effort: int) -> None:
    """Raise a :class:`UsageError` unless an effort is a whole number in its range."""
    if not (_is_number(effort, Integral) and 1 <= effort <= EFFORT):
        raise UsageError(f"effort is {effort!r}, and a whole number from 1 to {EFFORT} is needed; give one.")


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def block_shape(height: int, width: int) -> tuple[int, int]:
    """Return the shape of the edge bits of a token grid; blocks at the border may be cut off."""
    return -(-height // BLOCK), -(-width // BLOCK)


def sent_tokens(mode: MaskMode, edges: Bits, schedule: Schedule, height: int, width: int) -> Bits:
    """Return a grid (height, width) that is true where a token is sent; ``edges`` are its edge bits."""
    off_edges = schedule.stage_of(height, width) < schedule.leading(mode.share_off_edges)
    on_edges = edges.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)[:height, :width]
    return off_edges | on_edges
