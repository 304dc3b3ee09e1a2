"""The float twin of :mod:`uigc.export.modules.dyadic`: the same blocks in ordinary floating point.

Softmax, LayerNorm, GELU, no quantization. A prior of these blocks is not part of the codec, because its logits differ
from one machine to the next. It is the baseline for the cost of exactness, and so it gets the best of both: attention's
output is normalized as in the dyadic blocks, which helps softmax too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATION = RESIDUAL = LOGIT = 1.0  # real units throughout


def activation(x: Tensor) -> Tensor:
    return x


residual = logits = activation
positive_activation = F.gelu


def mask(allowed: Tensor) -> Tensor:
    """Return the mask that is added to the scores."""
    return torch.where(allowed, 0.0, -1e4)


def attend(query: Tensor, key: Tensor, value: Tensor, scores: Tensor, mask: Tensor | None) -> Tensor:
    """Apply softmax attention; shapes as in :func:`uigc.export.modules.dyadic.attend`."""
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2) + scores
    if mask is not None:
        logits = logits + mask
    return torch.softmax(logits, -1) @ value


class Linear(nn.Module):
    """A linear layer without a bias, because the shift of the LayerNorm in front of it acts as one."""

    def __init__(
        self, inputs: int, outputs: int, unit: float = ACTIVATION, gain: float = 1.0, bias: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * gain / inputs**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class Table(nn.Module):
    def __init__(self, initial: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(initial)

    def forward(self) -> Tensor:
        return self.weight


residual_table = score_table = logit_table = Table
residual_norm = context_norm = nn.LayerNorm


def freeze(module: nn.Module) -> None:
    module.eval()
