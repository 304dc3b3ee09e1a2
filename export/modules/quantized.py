"""Parameters that are trained in real units and used in whole steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


class Quantized(nn.Module):
    """A ``weight`` that is trained in real units and used in whole steps."""

    weight: nn.Parameter

    def __init__(self, initial: Tensor, step: float) -> None:
        """``step``: real units are steps times it."""
        super().__init__()
        self.weight, self.step = nn.Parameter(initial), step
        self.frozen = False
        self.kept: Tensor | None = None  # by quantized_once

    def quantized(self) -> Tensor:
        """Return the weight in steps, from real units."""
        raise NotImplementedError

    def steps(self) -> Tensor:
        if self.frozen:
            return self.weight
        return self.quantized() if self.kept is None else self.kept

    def freeze(self) -> None:
        """Replace the trained weight by the quantized one, which the forward pass uses in training too."""
        self.weight.data = self.quantized().detach()
        self.frozen = True

    def thaw(self) -> None:
        """Return to real units, so that training can continue; freezing at once gives the same weight again.

        Raises a :class:`RuntimeError` if the weight is in real units already.
        """
        if not self.frozen:
            raise RuntimeError("This weight is not frozen, so it is in real units already; do not thaw it.")
        self.weight.data = self.weight.data * self.step
        self.frozen = False


@contextmanager
def quantized_once(module: nn.Module) -> Iterator[None]:
    """Quantize every dyadic parameter below ``module`` once for all calls within, for a loss that sums several calls.

    The calls share the graph of the quantized weights, so go backward once, from the sum, or retain the graph.
    """
    parts = [part for part in module.modules() if isinstance(part, Quantized) and not part.frozen]
    try:
        for part in parts:
            part.kept = part.quantized()
        yield
    finally:
        for part in parts:
            part.kept = None
