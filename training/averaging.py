"""Weights averaged over the steps of a run: what is measured and kept is steadier than the weights of one step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import nn


class Average:
    """Exponential moving average of a module's parameters, with a warm-up; buffers are taken as they are."""

    def __init__(self, module: nn.Module, decay: float = 0.998) -> None:
        self.decay, self.updates = decay, 0
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in module.named_parameters():
            self.state[name].lerp_(value, 1 - decay)
        for name, buffer in module.named_buffers():
            if name in self.state:
                self.state[name].copy_(buffer)


class Averaging(Protocol):
    """A run: the module that learns, and its average."""

    module: nn.Module
    average: Average


@contextlib.contextmanager
def averaged(run: Averaging) -> Iterator[nn.Module]:
    """Give the module its averaged weights and evaluation mode for the length of the block."""
    kept = {name: value.clone() for name, value in run.module.state_dict().items()}
    run.module.load_state_dict(run.average.state)
    run.module.eval()
    try:
        with torch.no_grad():
            yield run.module
    finally:
        run.module.load_state_dict(kept)
        run.module.train()
