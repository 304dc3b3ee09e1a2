"""The three rules for the tokens off the edges, and the numbers that stand for them in a file."""

from __future__ import annotations

from enum import IntEnum


class MaskMode(IntEnum):
    """The rule for the tokens off the edges; the value is the one in the file."""

    ENTIRE = 0
    EDGE = 1
    EDGE_MORE = 2

    @property
    def label(self) -> str:
        """The mode's name on the command line."""
        return self.name.lower()

    @property
    def share_off_edges(self) -> float:
        """The share of the tokens that is sent off the edges."""
        return {MaskMode.ENTIRE: 1.0, MaskMode.EDGE: 0.5, MaskMode.EDGE_MORE: 0.25}[self]
