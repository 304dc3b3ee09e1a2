"""Perceptual distances, LPIPS (Zhang et al., CVPR 2018) and DISTS (Ding et al., TPAMI 2020), and two plain figures.

LPIPS and DISTS read their network weights from one safetensors file with torchvision's names
(``vgg16.features.N.weight``, ``alexnet.features.N.weight``), LPIPS's linear weights
(``lpips_alex.linN.model.1.weight``, ``lpips_vgg...``) and ``dists.alpha``, ``dists.beta``. Images are (B, 3, H, W) in
[0, 1]; distances are (B,). They are differentiable and serve as training losses too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

# Indices of the convolutions in torchvision's `features`, one tuple a stage whose last activation is compared.
_VGG16 = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
_ALEXNET = ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))  # index, stride (stage 0), padding
_LPIPS_SHIFT = (-0.030, -0.088, -0.188)
_LPIPS_SCALE = (0.458, 0.448, 0.450)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class Networks(nn.Module):
    """Frozen weights of the feature networks, read once and shared by the metrics."""

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        for name, tensor in load_file(path).items():
            self.register_buffer(name.replace(".", "_"), tensor.float())

    def weight(self, name: str) -> Tensor:
        tensor: Tensor = getattr(self, name.replace(".", "_"))
        return tensor

    def convolve(self, x: Tensor, network: str, index: int, stride: int = 1, padding: int = 1) -> Tensor:
        name = f"{network}.features.{index}"
        weight, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return F.relu(F.conv2d(x.to(weight.dtype), weight, bias, stride=stride, padding=padding))

    def converted(self, dtype: torch.dtype) -> Networks:
        """Return a copy whose convolutions are of ``dtype`` and lie channels-last: fast enough to train with, but not
        exact enough to measure with."""
        made = copy.deepcopy(self)
        for name, tensor in made.named_buffers():
            if "features" in name:
                layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
                made.register_buffer(name, tensor.to(dtype, memory_format=layout))
        return made

    def vgg16(self, x: Tensor, pool: Callable[[Tensor], Tensor]) -> list[Tensor]:
        features = []
        for stage, indices in enumerate(_VGG16):
            if stage:
                x = pool(x)
            for index in indices:
                x = self.convolve(x, "vgg16", index)
            features.append(x)
        return features

    def alexnet(self, x: Tensor) -> list[Tensor]:
        features = []
        for stage, (index, stride, padding) in enumerate(_ALEXNET):
            if stage in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            x = self.convolve(x, "alexnet", index, stride, padding)
            features.append(x)
        return features


def _per_channel(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device, dtype=torch.float32).view(1, 3, 1, 1)


def _unit_channels(x: Tensor) -> Tensor:
    x = x.float()
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


class LPIPS(nn.Module):
    """LPIPS 0.1 with ``net`` "alex" or "vgg"; inputs in [0, 1] are brought to [-1, 1] as the metric expects."""

    def __init__(self, networks: Networks, net: str = "alex") -> None:
        super().__init__()
        if net not in ("alex", "vgg"):
            raise ValueError(f"LPIPS knows the networks 'alex' and 'vgg', not {net!r}.")
        self.networks, self.net = networks, net

    def features(self, image: Tensor) -> list[Tensor]:
        x = (2 * image - 1 - _per_channel(_LPIPS_SHIFT, image)) / _per_channel(_LPIPS_SCALE, image)
        if self.net == "alex":
            return self.networks.alexnet(x)
        return self.networks.vgg16(x, lambda y: F.max_pool2d(y, 2, 2))

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        return self.distance(self.features(image), self.features(reference))

    def distance(self, image: list[Tensor], reference: list[Tensor]) -> Tensor:
        """Return the distance of two images from their :meth:`features`."""
        total = image[0].new_zeros(len(image[0]))
        for stage, (a, b) in enumerate(zip(image, reference, strict=True)):
            weight = self.networks.weight(f"lpips_{self.net}.lin{stage}.model.1.weight").flatten()
            difference = (_unit_channels(a) - _unit_channels(b)).square()
            total = total + (difference.mean((2, 3)) * weight).sum(1)
        return total


class DISTS(nn.Module):
    """Structure and texture similarity of VGG16 features, pooled by a Hann window instead of maxima."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.networks = networks

    @staticmethod
    def _pool(x: Tensor) -> Tensor:
        # The 3x3 Hann window is (1 2 1)/4 each way; by slices, whose gradient torch.compile can take.
        power = F.pad(x.square(), (1, 1, 1, 1))
        rows = power[:, :, :-2:2] * 0.25 + power[:, :, 1:-1:2] * 0.5 + power[:, :, 2::2] * 0.25
        both = rows[..., :-2:2] * 0.25 + rows[..., 1:-1:2] * 0.5 + rows[..., 2::2] * 0.25
        return (both + 1e-12).sqrt()

    def features(self, image: Tensor) -> list[Tensor]:
        x = (image - _per_channel(_IMAGENET_MEAN, image)) / _per_channel(_IMAGENET_STD, image)
        return [image, *self.networks.vgg16(x, self._pool)]

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        return self.distance(self.features(image), self.features(reference))

    def distance(self, image: list[Tensor], reference: list[Tensor]) -> Tensor:
        """Return the distance of two images from their :meth:`features`."""
        alpha, beta = (self.networks.weight(f"dists.{name}").flatten() for name in ("alpha", "beta"))
        total, start = image[0].new_zeros(len(image[0])), 0
        for a, b in zip(image, reference, strict=True):
            a, b = a.float(), b.float()
            channels = slice(start, start + a.shape[1])
            start = channels.stop
            mean_a, mean_b = a.mean((2, 3)), b.mean((2, 3))
            variance_a = (a - mean_a[:, :, None, None]).square().mean((2, 3))
            variance_b = (b - mean_b[:, :, None, None]).square().mean((2, 3))
            covariance = (a * b).mean((2, 3)) - mean_a * mean_b
            texture = (2 * mean_a * mean_b + 1e-6) / (mean_a.square() + mean_b.square() + 1e-6)
            structure = (2 * covariance + 1e-6) / (variance_a + variance_b + 1e-6)
            total = total + (alpha[channels] * texture + beta[channels] * structure).sum(1)
        return 1 - total / (alpha.sum() + beta.sum())


def order0(tokens: NDArray[np.integer]) -> float:
    """Return the order-0 entropy of tokens of any shape, in bits per token."""
    _, counts = np.unique(tokens, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())


def psnr(image: Tensor, reference: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in dB of images in [0, 1]."""
    return -10 * torch.log10((image - reference).square().mean((1, 2, 3)))
