"""Building blocks whose float32 arithmetic never rounds, so that every backend computes the same bits.

Each tensor is an integer multiple ("steps") of a power of two, bounded so that it and every partial sum fit the 24-bit
significand of float32. Steps and ranges are named here and nowhere else:

=========================  ===========  =========================================================================
tensor                     step         range in steps, and why
=========================  ===========  =========================================================================
weights                    2^e (a row)  +-63: 7 bits, so that int8 kernels without VNNI do not saturate
activations into a MatMul  2^-5         +-127: int8, also exact as fp16, bf16 and TF32 operands
residual stream            2^-7         +-2047: exact as fp16
attention weights          2^-4         0..127: int8
attention scores bias      2^-4         +-2047
attention output           2^-3         +-16383: 14 bits, times a reciprocal of 9 bits stays within 24
logits                     2^-5 nat     +-2047: handed out as integers
=========================  ===========  =========================================================================

A Linear of K inputs accumulates at most 127 * 63 * K steps. What is added to its sum must share the 24 bits: with
weight steps of at least 2^-12, the residual stream (16 / 2^-17 steps) and the head's bias (64 / 2^-17) fit beside
K = 1024 inputs; with steps of at most 2^-2 the sum is no coarser than what is added to it.

In training the same forward pass runs with straight-through gradients (Bengio et al., 2013) for rounding, so what was
trained is what is shipped.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATION = 2.0**-5
RESIDUAL = 2.0**-7
SCORE = 2.0**-4
CONTEXT = 2.0**-3
LOGIT = 2.0**-5

ACTIVATION_MAX = 127
RESIDUAL_MAX = 2047
SCORE_MAX = 2047
WEIGHT_MAX = 63
CONTEXT_MAX = 16383
LOGIT_MAX = 2047

LARGEST_INPUTS = 1024  # of a Linear
SMALLEST_WEIGHT_STEP = 2.0**-12
LARGEST_WEIGHT_STEP = 2.0**-2
RECIPROCAL_BITS = 9
SMALLEST_MEAN = 8  # below this mean magnitude (in steps) a vector is no longer amplified


class _StraightThrough(torch.autograd.Function):
    """Rounding and clipping in one node: the gradient passes where nothing was clipped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: float, low: int, high: int) -> Tensor:
        steps = torch.round(x * (1 / step) if step != 1 else x)
        ctx.save_for_backward((steps >= low) & (steps <= high))
        return steps.clamp_(low, high).mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None


def fix(x: Tensor, step: float, low: int, high: int) -> Tensor:
    """``x`` rounded (half to even) to multiples of ``step`` and clipped to [low, high] steps; traced as plain ops."""
    if torch.is_grad_enabled() and x.requires_grad:
        fixed: Tensor = _StraightThrough.apply(x, step, low, high)  # type: ignore[no-untyped-call]
        return fixed
    if step == 1:
        return torch.clamp(torch.round(x), low, high)
    return torch.clamp(torch.round(x * (1 / step)), low, high) * step


def activation(x: Tensor) -> Tensor:
    """Signed int8 activations, the only thing that enters a MatMul."""
    return fix(x, ACTIVATION, -ACTIVATION_MAX, ACTIVATION_MAX)


def positive_activation(x: Tensor) -> Tensor:
    """ReLU and quantization in one: 0..127 steps."""
    return fix(x, ACTIVATION, 0, ACTIVATION_MAX)


def residual(x: Tensor) -> Tensor:
    return fix(x, RESIDUAL, -RESIDUAL_MAX, RESIDUAL_MAX)


def logits(x: Tensor) -> Tensor:
    return fix(x, LOGIT, -LOGIT_MAX, LOGIT_MAX)


def score_bias(x: Tensor) -> Tensor:
    return fix(x, SCORE, -SCORE_MAX, SCORE_MAX)


def attend(query: Tensor, key: Tensor, value: Tensor, scores: Tensor, mask: Tensor | None) -> Tensor:
    """ReLU attention without row maximum, exponential or row sum.

    query, key, value: (batch, windows, heads, tokens, width) activations; scores: (heads, tokens, tokens) learned
    biases; mask: (windows, 1, tokens, tokens) of 0 and 1, or None. Returns (batch, windows, heads, tokens, width) in
    steps of ``CONTEXT``. The attention weights are held as whole steps, so that one Round and one Clip make them.
    """
    scale = 2.0 ** round(-0.5 * math.log2(query.shape[-1]))
    steps = (query * (scale / SCORE)) @ key.transpose(-1, -2) + scores
    weights = fix(steps, 1.0, 0, ACTIVATION_MAX)
    if mask is not None:
        weights = weights * mask
    return fix(weights @ value, CONTEXT / SCORE, -CONTEXT_MAX, CONTEXT_MAX) * SCORE


def row_step(weight: Tensor) -> Tensor:
    """The power of two at which the largest weight of a row needs 7 bits, within the limits: (rows, 1)."""
    largest = weight.detach().abs().amax(1, keepdim=True)
    mantissa, exponent = torch.frexp(largest / WEIGHT_MAX)  # exact, where log2 may round
    step = torch.ldexp(torch.ones_like(largest), torch.where(mantissa == 0.5, exponent - 1, exponent))
    return step.clamp(SMALLEST_WEIGHT_STEP, LARGEST_WEIGHT_STEP)


class Linear(nn.Module):
    """y = x W^T with weights of 7 bits times a power of two per output; no bias."""

    def __init__(self, inputs: int, outputs: int, gain: float = 1.0) -> None:
        super().__init__()
        if inputs > LARGEST_INPUTS:
            raise ValueError(f"A dyadic Linear takes {LARGEST_INPUTS} inputs, not {inputs}: sums would leave 24 bits.")
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * gain / math.sqrt(inputs))
        self.frozen = False

    def quantized(self) -> Tensor:
        step = row_step(self.weight)
        return fix(self.weight / step, 1.0, -WEIGHT_MAX, WEIGHT_MAX) * step

    def freeze(self) -> None:
        """Replace the trained weights by the quantized ones that the forward pass has always used."""
        self.weight.data = self.quantized().detach()
        self.frozen = True

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight if self.frozen else self.quantized())


class FixedTable(nn.Module):
    """A learned table that is quantized to ``step`` wherever it is read."""

    def __init__(self, initial: Tensor, step: float, limit: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(initial)
        self.step, self.limit, self.frozen = step, limit, False

    def freeze(self) -> None:
        self.weight.data = fix(self.weight.detach(), self.step, -self.limit, self.limit)
        self.frozen = True

    def forward(self) -> Tensor:
        return self.weight if self.frozen else fix(self.weight, self.step, -self.limit, self.limit)


def residual_table(initial: Tensor) -> FixedTable:
    """A table of vectors for the residual stream; half its range, so that the sum of two fits."""
    return FixedTable(initial, RESIDUAL, RESIDUAL_MAX // 2)


def score_table(initial: Tensor) -> FixedTable:
    """Score biases, held as whole steps: what :func:`attend` adds to its scores."""
    return FixedTable(initial * (1 / SCORE), 1.0, SCORE_MAX)


def logit_table(initial: Tensor) -> FixedTable:
    return FixedTable(initial, LOGIT, LOGIT_MAX)


def short_reciprocals(count: int) -> Tensor:
    """Table of 1/m for m = 0..count-1 with significands of 9 bits; 1/``SMALLEST_MEAN`` below that."""
    exact = 1.0 / torch.arange(count, dtype=torch.float64).clamp_min(SMALLEST_MEAN)
    step = torch.exp2(torch.floor(torch.log2(exact)) - (RECIPROCAL_BITS - 1))
    return (torch.round(exact / step) * step).float()


class Norm(nn.Module):
    """x / mean|x| as activations; the width (last dimension) must be a power of two.

    ``step`` and ``limit`` are those of the input. The mean is rounded to an integer that indexes a table of short
    reciprocals: one gather a token instead of a division.
    """

    def __init__(self, width: int, step: float, limit: int) -> None:
        super().__init__()
        if width & (width - 1) or width * limit >= 2**24:
            raise ValueError(f"A dyadic Norm needs a width that is a power of two below {2**24 // limit}, not {width}.")
        self.step = step
        self.reciprocals: Tensor
        self.register_buffer("reciprocals", short_reciprocals(limit + 1)[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        steps = x * (1 / self.step)
        mean = steps.abs().sum(-1, keepdim=True) * (1.0 / x.shape[-1])
        reciprocal = F.embedding(torch.round(mean[..., 0]).to(torch.int32), self.reciprocals)
        if torch.is_grad_enabled() and x.requires_grad:
            smooth = 1 / mean.clamp_min(SMALLEST_MEAN)
            reciprocal = smooth + (reciprocal - smooth).detach()
        return activation(steps * reciprocal)


def residual_norm(width: int) -> Norm:
    return Norm(width, RESIDUAL, RESIDUAL_MAX)


def context_norm(width: int) -> Norm:
    return Norm(width, CONTEXT, CONTEXT_MAX)


def freeze(module: nn.Module) -> None:
    """Quantize every dyadic parameter below ``module`` in place and switch to evaluation."""
    for part in module.modules():
        if isinstance(part, Linear | FixedTable):
            part.freeze()
    module.eval()
