"""How far a decoded image is from its photograph, by its pixels and by the features of networks.

One pass of VGG16 serves three losses: DISTS, LPIPS-VGG (on DISTS' pooling, which hardly changes its distances) and the
adversary of features. LPIPS-Alex is cheap, but does not notice patterns that repeat at its stride of four; the networks
get windows at random places of the crops, so at any phase, and three more terms measure what is left: the colour of
large fields, patterns that are the same in every token, and images of a single colour, which have to stay so.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uigc.bench.metrics import DISTS, LPIPS, Networks
from uigc.runtime.format.bitstream import PATCH

COLOUR_SCALES = (8, 16, 32)  # pixels
PATTERN_DECAY = 0.95  # a step
BRIGHT = 0.5  # from this mean value on, of a token's pixels in 0..1


@dataclass(frozen=True)
class LossWeights:
    """Weights beside that of the mean absolute error, 1."""

    lpips_vgg: float = 1.0
    lpips_alex: float = 0.9
    dists: float = 1.0
    colour: float = 2.0
    pattern: float = 3.0
    flat: float = 1.0
    adversary_features: float = 0.05
    adversary_pixels: float = 0.05

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Weighted sum of terms by their names; those without a weight here count as they are."""
        return torch.stack([getattr(self, name, 1.0) * term for name, term in terms.items()]).sum()


def colour_distance(image: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute difference (B, 3, H, W) of averages over squares of 8, 16 and 32 pixels: a scalar."""
    error = image - reference
    return torch.stack([F.avg_pool2d(error, side).abs().mean() for side in COLOUR_SCALES]).mean()


def token_details(image: Tensor) -> Tensor:
    """The detail (tokens, 3, 16, 16) of images (B, 3, 16h, 16w), h and w at least 3: the image minus a low-pass of it,
    in all tokens but those at the border."""
    low = F.avg_pool2d(image, PATCH)
    detail = image - F.interpolate(low, scale_factor=PATCH, mode="bilinear")
    inner = detail[:, :, PATCH:-PATCH, PATCH:-PATCH]
    batch, channels, height, width = inner.shape
    tokens = inner.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return tokens.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def fixed_pattern(image: Tensor) -> Tensor:
    """The detail (3, 16, 16) that the tokens of images (B, 3, 16h, 16w), h and w at least 3, have in common.

    It is averaged over the tokens, each pixel of a token for itself. Photographs have hardly any.
    """
    return token_details(image).mean(0)


def pattern_distance(image: Tensor, reference: Tensor) -> Tensor:
    """Root mean square of the fixed pattern that images have and their photographs do not: a scalar."""
    return (fixed_pattern(image - reference).square().mean() + 1e-10).sqrt()


class Patterns:
    """The fixed patterns that a decoder leaves, as means over many steps: of dark tokens and of bright ones.

    The pattern of one batch is mostly chance once there is little of it. Its part along the mean of the last twenty
    batches is what all of them have in common.
    """

    def __init__(self, device: torch.device) -> None:
        self.means = torch.zeros(2, 3, PATCH, PATCH, device=device)

    def distance(self, image: Tensor, reference: Tensor) -> Tensor:
        """Return how much of the mean patterns is in what images (B, 3, 16h, 16w) have beyond their photographs: a
        scalar, the root mean square of a pattern that stays the same. Lets the means follow."""
        details = token_details(image - reference)
        bright = F.avg_pool2d(reference, PATCH).mean(1)[:, 1:-1, 1:-1].flatten() >= BRIGHT
        total = details.new_zeros(())
        for mean, tokens in zip(self.means, (details[~bright], details[bright]), strict=True):
            if len(tokens):
                pattern = tokens.mean(0)
                if torch.isfinite(pattern).all():  # the mean would keep what is not for ever
                    mean.lerp_(pattern.detach(), 1 - PATTERN_DECAY)
                direction = mean / (mean.square().mean() + 1e-12).sqrt()
                along = (pattern * direction).mean()
                total = total + along * (len(tokens) / len(details))
        return total

    def state_dict(self) -> dict[str, Tensor]:
        return {"means": self.means}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.means.copy_(state["means"])


def pixel_terms(image: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """The losses that need no network, of images (B, 3, H, W)."""
    return {
        "l1": (image - reference).abs().mean(),
        "colour": colour_distance(image, reference),
    }


def flat_distance(image: Tensor, reference: Tensor, border: int = PATCH) -> Tensor:
    """Mean distance of images (B, 3, H, W) from images of a single colour, without a ``border`` of pixels that leaves
    something: a scalar.

    The distance of an image is the fourth root of the mean fourth power of its errors. So a pixel that stands out
    counts most, as it does to the eye; and an image whose colour cannot be told from its tokens pulls no more than
    another, so that of several colours that share a token the frequent one wins.
    """
    inner = slice(border, -border or None)
    error = (image - reference)[:, :, inner, inner]
    return (error.pow(4).mean((1, 2, 3)) + 1e-12).pow(0.25).mean()


class PerceptualLosses(nn.Module):
    """LPIPS-VGG and DISTS from one pass of VGG16, and LPIPS-Alex."""

    def __init__(self, networks: Networks, compiled: bool = False) -> None:
        super().__init__()
        self.dists, self.vgg, self.alex = DISTS(networks), LPIPS(networks, "vgg"), LPIPS(networks, "alex")
        functions = self.dists.features, self._distances, self.alex.forward
        if compiled:  # for each size of image anew, which is faster than for all sizes
            functions = tuple(torch.compile(function, dynamic=False) for function in functions)  # type: ignore[assignment]
        self._features, self._judge, self._alex = functions

    def _distances(self, made: list[Tensor], real: list[Tensor]) -> tuple[Tensor, Tensor]:
        return self.vgg.distance(made[1:], real[1:]).mean(), self.dists.distance(made, real).mean()

    def features(self, image: Tensor) -> list[Tensor]:
        """The image (B, 3, H, W) itself, then VGG16's five stages."""
        return self._features(image)

    def forward(self, made: list[Tensor], real: list[Tensor]) -> dict[str, Tensor]:
        """The losses of images with the :meth:`features` ``made`` against photographs with ``real``."""
        vgg, dists = self._judge(made, real)
        return {"lpips_vgg": vgg, "dists": dists, "lpips_alex": self._alex(made[0], real[0]).mean()}
