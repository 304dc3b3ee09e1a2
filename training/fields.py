"""Fields of tokens, which images of a single colour become, and how flat a decoder paints them."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uigc.bench.flat_fields import BORDER
from uigc.export.modules.interface import VQTokenizer
from uigc.runtime.bundle.manifest import INT8_WEIGHT_MAX
from uigc.runtime.format.bitstream import PATCH
from uigc.training.held_out import pure_colours
from uigc.training.losses import flat_distance

SHADES = 17  # of each channel, of the colours whose tokens are looked for
SIDES = (8, 16, 24)  # tokens; of fields with borders, whose traces reach about eight tokens into them
WEIGHTS = {"endless": 1.0, "inner": 1.0, "whole": 0.2}  # a decoder has little to go by at the border
INT8_CHANNELS = 64  # in and out, from which on a convolution is quantized
LEVELS = 127
LARGEST_RANGE = 1.3  # times the largest magnitude in fields, which no range clips; photographs widen some by as much


def circular(network: nn.Module) -> nn.Module:
    """Return a copy that shares the weights, with circular padding.

    What it makes of one period is then what lies in the middle of a large field of such periods: of one token, or of
    16x16 pixels of one colour.
    """
    twin = copy.deepcopy(network, {id(weight): weight for weight in network.parameters()})
    for module in twin.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
    return twin


class FakeInt8(nn.Module):
    """A convolution as an int8 graph computes it, with gradients that pass straight through the rounding.

    Weights are rounded as they are there. The ranges of the input and of the output before the bias are drawn anew each
    time, because those of graphs are chosen later: what stays even under all of them is even.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        weight = self.layer.weight
        kernel = _rounded(weight, weight.detach().abs().amax((1, 2, 3), keepdim=True) / INT8_WEIGHT_MAX)
        product = self.layer._conv_forward(_in_range(x), kernel, None)
        bias = self.layer.bias
        return _in_range(product) if bias is None else _in_range(product) + bias.view(1, -1, 1, 1)


def _in_range(x: Tensor) -> Tensor:
    reach = x.detach().abs().amax() * torch.empty((), device=x.device).uniform_(1, LARGEST_RANGE)
    return _rounded(x, reach / LEVELS)


def _rounded(x: Tensor, step: Tensor) -> Tensor:
    step = step.clamp_min(1e-12)
    return x + ((x / step).round() * step - x).detach()


def fake_int8(network: nn.Module) -> nn.Module:
    """Replace the wide convolutions of a network by :class:`FakeInt8`; pointwise ones stay, as in int8 graphs."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Conv2d) and _is_wide(layer):
                setattr(parent, name, FakeInt8(layer))
    return network


def _is_wide(layer: nn.Conv2d) -> bool:
    return layer.kernel_size != (1, 1) and min(layer.in_channels, layer.out_channels) >= INT8_CHANNELS


@dataclass(frozen=True)
class Fields:
    """What images of a single colour become.

    ``tokens`` int64 (n, 1, 1): those that fields of the colours that are looked for consist of, away from the border.
    ``colours`` (n, 3, 1, 1) in [0, 1]: what each is to be painted in, which is the pure colour that becomes this token
    (the mean of several), or else what a decoder paints on average. ``grids``: whole grids int64 (9, side, side) of the
    pure colours, by their side; ``theirs`` (9, 3, 1, 1): what these are to be painted in.
    """

    tokens: Tensor
    colours: Tensor
    grids: dict[int, Tensor]
    theirs: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, tokenizer: VQTokenizer, decoder: nn.Module) -> Fields:
        """Look for them with a tokenizer of convolutions only, and a decoder of its tokens."""
        device = tokenizer.quantizer.words.device
        pure = pure_colours(device)
        shades = torch.cartesian_prod(*3 * [torch.linspace(0, 1, SHADES, device=device)]).view(-1, 3, 1, 1)
        encoder = circular(tokenizer.encoder)
        found, others = (
            tokenizer.quantizer.assign(encoder(some.expand(-1, 3, PATCH, PATCH).contiguous())).flatten()
            for some in (pure, shades)
        )
        tokens = torch.bincount(torch.cat([found, others])).nonzero().flatten()
        painted = circular(decoder)(tokenizer.quantizer.look_up(tokens.view(-1, 1, 1)))
        colours = painted.mean((2, 3), keepdim=True).clamp(0, 1)
        for token in set(found.tolist()):
            colours[tokens == token] = pure[found == token].mean(0)
        grids = {side: _tokens(tokenizer, pure, side) for side in SIDES}
        return cls(tokens.view(-1, 1, 1), colours, grids, colours[torch.searchsorted(tokens, found)])

    def draw(self, rng: random.Random) -> tuple[Tensor, Tensor]:
        """Return grids (m, side, side) of a random side, of each about as many tokens, and their colours."""
        side = rng.choice(SIDES)
        chosen = rng.sample(range(len(self.theirs)), max(1, len(self.theirs) * SIDES[0] ** 2 // side**2))
        return self.grids[side][chosen], self.theirs[chosen]


def _tokens(tokenizer: VQTokenizer, colours: Tensor, side: int) -> Tensor:
    """Encode images of single colours (n, 3, 1, 1): tokens (n, side, side)."""
    images = colours.expand(-1, 3, PATCH * side, PATCH * side)
    grids = [tokenizer.quantizer.assign(tokenizer.encoder(image.contiguous())) for image in torch.split(images, 1)]
    return torch.cat(grids)


class Flatness:
    """How far the decoder of a tokenizer is from painting fields flat and in their colours."""

    def __init__(self, tokenizer: VQTokenizer, fields: Fields) -> None:
        self._tokenizer, self._fields = tokenizer, fields
        self._endless = fake_int8(circular(tokenizer.decoder))

    def terms(self, rng: random.Random) -> dict[str, Tensor]:
        """Return the losses of fields without end, as int8 paints them, and of the inside and the whole of some fields
        with borders, in float32: scalars, to be weighted by ``WEIGHTS``."""
        look_up = self._tokenizer.quantizer.look_up
        grids, colours = self._fields.draw(rng)
        painted = self._tokenizer.decoder(look_up(grids))
        return {
            "endless": flat_distance(self._endless(look_up(self._fields.tokens)), self._fields.colours, 0),
            "inner": flat_distance(painted, colours, BORDER),
            "whole": flat_distance(painted, colours, 0),
        }
