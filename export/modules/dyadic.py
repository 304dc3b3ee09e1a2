"""Building blocks whose float32 arithmetic never rounds, so that every backend computes the same bits.

Each tensor holds whole *steps*: integers, bounded so that they and every partial sum fit the 24-bit significand of
float32. This table alone defines how large a step is and how many there may be:

=========================  ===========  =========================================================================
tensor                     one step is  range in steps, and why
=========================  ===========  =========================================================================
weights                    2^e (a row)  +-63: 7 bits, so that int8 kernels without VNNI do not saturate
activations into a MatMul  2^-5         -128..127: int8, also exact as fp16, bf16 and TF32 operands
residual stream            2^-7         +-2047: exact as fp16
attention weights          2^-4         0..127: int8
attention scores bias      2^-4         +-2047
attention output                        +-16256, a mean of products: times a reciprocal of 9 bits within 24 bits
biases                     as sums      +-2047, added to a Linear's sum before it is rounded
logits                     2^-5 nat     +-2047: returned as integers
=========================  ===========  =========================================================================

Parameters are trained in real units. :func:`freeze` replaces them by the exported ones, which map steps to steps. A
Linear with K inputs accumulates at most 128 * 63 * K multiples of its weights' step. A term that is added to its sum
must share the 24 bits: with weight steps of at least 2^-12, the residual stream (16 / 2^-17) and the head's bias
(64 / 2^-17) fit beside K = 1024 inputs; with steps of at most 2^-2 the sum is not coarser than that term.

Training runs the same forward pass, with straight-through gradients (Bengio et al., 2013) for rounding, so that the
exported prior is exactly the trained one.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uigc.export.modules.quantized import Quantized
from uigc.runtime.bundle.manifest import INT8_WEIGHT_MAX

ACTIVATION = 2.0**-5
RESIDUAL = 2.0**-7
SCORE = 2.0**-4
LOGIT = 2.0**-5

ACTIVATION_MIN, ACTIVATION_MAX = -128, 127
RESIDUAL_MAX = 2047
SCORE_MAX = 2047
WEIGHT_MAX = INT8_WEIGHT_MAX
CONTEXT_MAX = 127 * 128  # an attention weight times an activation
BIAS_MAX = 2047
LOGIT_MAX = 2047

LARGEST_INPUTS = 1024  # to a Linear
SMALLEST_WEIGHT_STEP = 2.0**-12
LARGEST_WEIGHT_STEP = 2.0**-2
RECIPROCAL_BITS = 9
SMALLEST_MEAN = 8  # below this mean magnitude (in steps) a vector is no longer amplified


class _StraightThrough(torch.autograd.Function):
    """Round and clip; the gradient passes where nothing was clipped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limits = low - 0.5, high + 0.5
        return torch.round(x).clamp_(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        # One pass over the numbers, where comparisons and products would be five: most of a training step is here.
        return torch.ops.aten.hardtanh_backward(gradients[0], ctx.saved_tensors[0], *ctx.limits), None, None


def fix(x: Tensor, low: int, high: int) -> Tensor:
    """Return ``x`` rounded (half to even) and clipped to [low, high]; traced as Round and Clip."""
    if torch.is_grad_enabled() and x.requires_grad:
        fixed: Tensor = _StraightThrough.apply(x, low, high)  # type: ignore[no-untyped-call]
        return fixed
    return torch.clamp(torch.round(x), low, high)


class _Round(torch.autograd.Function):
    """Round half to even, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def rounded(x: Tensor) -> Tensor:
    """Return ``x`` rounded (half to even), for values that are in range already."""
    steps: Tensor = _Round.apply(x)  # type: ignore[no-untyped-call]
    return steps


def activation(x: Tensor) -> Tensor:
    """Return int8 activations: the whole range of int8, so that QuantizeLinear alone does the same in an int8 graph."""
    return fix(x, ACTIVATION_MIN, ACTIVATION_MAX)


def positive_activation(x: Tensor) -> Tensor:
    """Return int8 activations behind a ReLU."""
    return fix(x, 0, ACTIVATION_MAX)


def residual(x: Tensor) -> Tensor:
    return fix(x, -RESIDUAL_MAX, RESIDUAL_MAX)


def logits(x: Tensor) -> Tensor:
    return fix(x, -LOGIT_MAX, LOGIT_MAX)


def share(tokens: int) -> float:
    """Return the factor of attention's sums over a window of ``tokens``; with it they stay within 14 bits unclipped."""
    return 2.0 ** -math.ceil(math.log2(tokens))


def mask(allowed: Tensor) -> Tensor:
    """Return factors of attention weights: :func:`share` where ``allowed`` (..., tokens, tokens) is True, else 0."""
    return torch.where(allowed, share(allowed.shape[-1]), 0.0)


def attend(query: Tensor, key: Tensor, value: Tensor, scores: Tensor, mask: Tensor | None) -> Tensor:
    """Apply ReLU attention, which needs no row maximum, exponential or row sum.

    key, value: (batch, rows, columns, heads, tokens, width) activations, for rows and columns of windows; query: the
    same of all tokens, or of some (m instead of tokens); scores: (heads, m, tokens) learned biases; mask: (rows,
    columns, 1, m, tokens) from :func:`mask`, or None. Returns the sums, in the shape of ``query``, times the
    :func:`share` of a token.
    """
    # Scores are scaled by about 1 / sqrt(width), rounded to a power of two; both orders of the last product are exact.
    scale = 2.0 ** round(-0.5 * math.log2(query.shape[-1]))
    products = (query * (ACTIVATION**2 * scale / SCORE)) @ key.transpose(-1, -2)
    weights = fix(products + scores, 0, ACTIVATION_MAX)
    if mask is not None:
        return rounded((weights * mask) @ value)
    return rounded(weights @ (value * share(key.shape[-2])))


def row_step(weight: Tensor) -> Tensor:
    """Return the power of two at which the largest weight of each row needs 7 bits, within the limits: (rows, 1)."""
    largest = weight.detach().abs().amax(1, keepdim=True)
    mantissa, exponent = torch.frexp(largest / WEIGHT_MAX)  # exact, where log2 may round
    step = torch.ldexp(torch.ones_like(largest), torch.where(mantissa == 0.5, exponent - 1, exponent))
    return step.clamp(SMALLEST_WEIGHT_STEP, LARGEST_WEIGHT_STEP)


class Linear(Quantized):
    """y = x W^T + b, from activations to multiples of ``unit``.

    Each output has weights of 7 bits times a power of two; the optional biases are whole multiples of ``unit``.
    """

    def __init__(
        self, inputs: int, outputs: int, unit: float = ACTIVATION, gain: float = 1.0, bias: bool = False
    ) -> None:
        if inputs > LARGEST_INPUTS:
            raise ValueError(f"A dyadic Linear takes {LARGEST_INPUTS} inputs, not {inputs}: sums would leave 24 bits.")
        super().__init__(torch.randn(outputs, inputs) * gain / math.sqrt(inputs), unit / ACTIVATION)
        self.bias = FixedTable(torch.zeros(outputs), unit, BIAS_MAX) if bias else None

    def quantized(self) -> Tensor:
        step = row_step(self.weight)
        return fix(self.weight / step, -WEIGHT_MAX, WEIGHT_MAX) * (step / self.step)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.steps(), self.bias() if self.bias is not None else None)


class FixedTable(Quantized):
    """A learned table, trained in real units and read in whole multiples of ``step``."""

    def __init__(self, initial: Tensor, step: float, limit: int) -> None:
        super().__init__(initial, step)
        self.limit = limit

    def quantized(self) -> Tensor:
        return fix(self.weight * (1 / self.step), -self.limit, self.limit)

    def forward(self) -> Tensor:
        return self.steps()


def residual_table(initial: Tensor) -> FixedTable:
    """Return a table of vectors for the residual stream, with half its range, so that the sum of two fits."""
    return FixedTable(initial, RESIDUAL, RESIDUAL_MAX // 2)


def score_table(initial: Tensor) -> FixedTable:
    return FixedTable(initial, SCORE, SCORE_MAX)


def logit_table(initial: Tensor) -> FixedTable:
    return FixedTable(initial, LOGIT, LOGIT_MAX)


def short_reciprocals(count: int) -> Tensor:
    """Return a table of reciprocals with significands of 9 bits, for numbers from j up to j + 1, j = 0..count-1.

    Entry j is the reciprocal of j + 1/2, or of ``SMALLEST_MEAN`` if that is larger.
    """
    exact = 1.0 / (torch.arange(count, dtype=torch.float64) + 0.5).clamp_min(SMALLEST_MEAN)
    step = torch.exp2(torch.floor(torch.log2(exact)) - (RECIPROCAL_BITS - 1))
    return (torch.round(exact / step) * step).float()


class Norm(nn.Module):
    """x / mean|x| as activations, whatever the step of x.

    ``width`` (of the last dimension) must be a power of two; ``limit`` is the largest magnitude of x in steps. The
    whole part of the mean indexes a table of short reciprocals: one lookup for each token instead of a division, and a
    cast to integers, which drops the fraction, instead of a rounding.
    """

    def __init__(self, width: int, limit: int) -> None:
        super().__init__()
        if width & (width - 1) or width * limit >= 2**24:
            raise ValueError(f"A dyadic Norm needs a width that is a power of two below {2**24 // limit}, not {width}.")
        self.reciprocals: Tensor
        table = short_reciprocals(limit + 1)[:, None] * (1 / ACTIVATION)
        self.register_buffer("reciprocals", table, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.abs().sum(-1) * (1.0 / x.shape[-1])  # exact, because the width is a power of two
        reciprocal = F.embedding(mean.to(torch.int32), self.reciprocals)
        if torch.is_grad_enabled() and x.requires_grad:
            # The gradient is that of the division, because a table has none.
            smooth = (1 / ACTIVATION) / mean.clamp_min(SMALLEST_MEAN)[..., None]
            reciprocal = smooth + (reciprocal - smooth).detach()
        return activation(x * reciprocal)


def residual_norm(width: int) -> Norm:
    return Norm(width, RESIDUAL_MAX)


def context_norm(width: int) -> Norm:
    return Norm(width, CONTEXT_MAX)


def freeze(module: nn.Module) -> None:
    """Quantize every dyadic parameter below ``module`` in place and switch to evaluation."""
    for part in module.modules():
        if isinstance(part, Quantized):
            part.freeze()
    module.eval()


def thaw(module: nn.Module) -> None:
    """The inverse of :func:`freeze`."""
    for part in module.modules():
        if isinstance(part, Quantized):
            part.thaw()
