"""How far a decoded image is from its photograph, and what that is in the eye of each network.

One pass of VGG16 serves three losses: DISTS, LPIPS-VGG (on DISTS' pooling, which the eye of a trained LPIPS does not
mind) and the adversary of features. LPIPS-Alex is cheap, but blind to patterns that repeat at its stride of four; the
networks see windows at random places of the crops, so at any phase, and two more terms watch what is left: the colour
of large fields, and patterns that are the same in every token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uigc.bench.metrics import DISTS, LPIPS, Networks
from uigc.runtime.format.bitstream import PATCH

COLOUR_SCALES = (8, 16, 32)  # pixels


@dataclass(frozen=True)
class LossWeights:
    """Weights beside that of the mean absolute error, 1."""

    lpips_vgg: float = 1.0
    lpips_alex: float = 0.3
    dists: float = 1.0
    colour: float = 2.0
    pattern: float = 2.0
    adversary_features: float = 0.05
    adversary_pixels: float = 0.05

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Weighted sum of terms by their names; those without a weight here count as they are."""
        return torch.stack([getattr(self, name, 1.0) * term for name, term in terms.items()]).sum()


def colour_distance(image: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute difference (B, 3, H, W) of averages over squares of 8, 16 and 32 pixels: a scalar."""
    error = image - reference
    return torch.stack([F.avg_pool2d(error, side).abs().mean() for side in COLOUR_SCALES]).mean()


def fixed_pattern(image: Tensor) -> Tensor:
    """The detail (3, 16, 16) that the tokens of images (B, 3, 16h, 16w), h and w at least 3, have in common.

    The detail is the image minus a low-pass of it, averaged over all tokens but those at the border, each pixel of a
    token for itself. Photographs have hardly any.
    """
    low = F.avg_pool2d(image, PATCH)
    detail = image - F.interpolate(low, scale_factor=PATCH, mode="bilinear")
    inner = detail[:, :, PATCH:-PATCH, PATCH:-PATCH]
    batch, channels, height, width = inner.shape
    tokens = inner.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return tokens.mean((0, 2, 4))


def pattern_distance(image: Tensor, reference: Tensor) -> Tensor:
    """Root mean square of the fixed pattern that images have and their photographs do not: a scalar."""
    return (fixed_pattern(image - reference).square().mean() + 1e-10).sqrt()


def pixel_terms(image: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """The losses that need no network, of images (B, 3, H, W)."""
    return {
        "l1": (image - reference).abs().mean(),
        "colour": colour_distance(image, reference),
        "pattern": pattern_distance(image, reference),
    }


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
