"""Two adversaries, which learn to tell decoded images from photographs while the decoder learns to pass for one.

Small heads judge features of VGG16, as in projected GANs (Sauer et al., NeurIPS 2021): the perceptual losses compute
these features anyway. A network of patches judges the pixels themselves, where it sees the woven patterns that feature
networks do not; spectral norm (Miyato et al., ICLR 2018) keeps it smooth. Both learn by the hinge loss (Lim and Ye,
2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from uigc.runtime.errors import InputError
from uigc.runtime.io.atomic import replace as replace_file

ADVERSARIES = "adversaries.safetensors"
LEARNING_RATE = 4e-4
LARGEST_GRADIENT = 10.0  # norm; larger ones are cut to it
WIDTH = 64
# Of DISTS' features: the image itself, then VGG16's five stages of 64, 128, 256, 512 and 512 channels.
LEVELS = {2: 128, 3: 256, 4: 512}
PATCHES = ((3, 48, 4, 2), (48, 96, 4, 2), (96, 192, 4, 1), (192, 1, 3, 1))  # in, out, kernel, stride


class Head(nn.Module):
    """Logits (B, 1, h, w) of one level's features (B, channels, h, w): is a place of the image a photograph's?

    Its convolutions project (``p``), mix neighbours (``m``) and judge (``j``); trained weights come under these names.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.p = nn.Conv2d(channels, WIDTH, 1)
        self.m = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.j = nn.Conv2d(WIDTH, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        scaled = features.float() * torch.rsqrt(features.float().square().mean((1, 2, 3), keepdim=True) + 1e-6)
        logits: Tensor = self.j(F.leaky_relu(self.m(F.leaky_relu(self.p(scaled), 0.2)), 0.2))
        return logits


class FeatureAdversary(nn.Module):
    """A head on each of the levels."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(channels) for channels in LEVELS.values())

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [head(features[level]) for level, head in zip(LEVELS, self.heads, strict=True)]


class PixelAdversary(nn.Module):
    """Logits (B, 1, h, w) of patches of an image (B, 3, H, W) in [0, 1].

    Its layers are ``l``; trained weights come under this name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.ModuleList(spectral_norm(nn.Conv2d(i, o, kernel, stride, 1)) for i, o, kernel, stride in PATCHES)

    def forward(self, image: Tensor) -> Tensor:
        x = image * 2 - 1
        for layer in self.l[:-1]:
            x = F.leaky_relu(layer(x), 0.2)
        logits: Tensor = self.l[-1](x)
        return logits


class Adversaries:
    """Both of them and their optimizer. What they look at are DISTS' features: the image, then VGG16's stages."""

    def __init__(self, device: torch.device) -> None:
        self.features = FeatureAdversary().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.pixels = PixelAdversary().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._parameters = [*self.features.parameters(), *self.pixels.parameters()]
        self.optimizer = torch.optim.AdamW(self._parameters, LEARNING_RATE, betas=(0.5, 0.95))
        self.warm = False
        """Whether they have learned before this run."""

    def _modules(self) -> dict[str, nn.Module]:
        return {"adversary": self.features, "pixel": self.pixels}

    def generator_losses(self, made: list[Tensor]) -> dict[str, Tensor]:
        """Return how far an image with these features is from passing for a photograph: two scalars.

        Take the gradient for the image alone (``torch.autograd.grad``), so that the adversaries get none.
        """
        self.pixels.eval()  # no step of the power iteration for an image that is judged twice
        judged = self.pixels(made[0])
        self.pixels.train()
        levels = torch.stack([logits.float().mean() for logits in self.features(made)])
        return {"adversary_features": -levels.mean(), "adversary_pixels": -judged.float().mean()}

    def learn(self, real: list[Tensor], made: list[Tensor], pace: float = 1.0) -> Tensor:
        """Take one step with ``pace`` times the learning rate, and return the hinge loss of both, summed.

        A loss or a gradient that is not finite is passed over.
        """
        real, made = ([level.detach() for level in side] for side in (real, made))
        heads = [F.relu(1 - logits.float()).mean() for logits in self.features(real)]
        heads += [F.relu(1 + logits.float()).mean() for logits in self.features(made)]
        loss = torch.stack(heads).sum() / len(LEVELS)
        loss = loss + F.relu(1 - self.pixels(real[0]).float()).mean() + F.relu(1 + self.pixels(made[0]).float()).mean()
        self.optimizer.zero_grad(set_to_none=True)
        if torch.isfinite(loss):
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(self._parameters, LARGEST_GRADIENT)
            for group in self.optimizer.param_groups:
                group["lr"] = pace * LEARNING_RATE
            if torch.isfinite(norm):
                self.optimizer.step()
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        modules = {name: module.state_dict() for name, module in self._modules().items()}
        return {**modules, "optimizer": self.optimizer.state_dict(), "warm": self.warm}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, module in self._modules().items():
            module.load_state_dict(state[name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.warm = state["warm"]

    def save(self, folder: Path) -> None:
        """Write their weights to ``adversaries.safetensors``, from which another run may go on."""
        tensors = {
            f"{name}.{key}": value.detach().cpu().contiguous()
            for name, module in self._modules().items()
            for key, value in module.state_dict().items()
        }
        replace_file(folder / ADVERSARIES, lambda part: save_file(tensors, part))

    def start_from(self, path: Path) -> None:
        """Take the weights ``adversary.*`` and ``pixel.*`` of a safetensors file, of any precision.

        Raises :class:`InputError` if the file is not readable or lacks one of them.
        """
        try:
            stored = load_file(path)
            for name, module in self._modules().items():
                module.load_state_dict(_under(stored, f"{name}."))
        except (SafetensorError, OSError, RuntimeError) as error:
            raise InputError(f"{path} does not hold the weights of both adversaries ({error}).") from None
        self.warm = True


def _under(stored: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value.float() for name, value in stored.items() if name.startswith(prefix)}
