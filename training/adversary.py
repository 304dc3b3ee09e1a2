"""A discriminator on frozen features, as in projected GANs (Sauer et al., NeurIPS 2021).

The discriminator reuses the VGG16 features that the perceptual loss computes anyway, so it costs little, and it learns
in a fraction of the steps of a discriminator on pixels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEARNING_RATE = 4e-4
WIDTH = 64
# Of DISTS' features: the image itself, then VGG16's five stages of 64, 128, 256, 512 and 512 channels.
LEVELS = {2: 128, 3: 256, 4: 512}


class Head(nn.Module):
    """Logits (B, 1, h, w) of one level's features (B, channels, h, w): is a place of the image a photograph's?"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, WIDTH, 1)
        self.mix = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.judge = nn.Conv2d(WIDTH, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        scaled = features.float() / (features.float().square().mean((1, 2, 3), keepdim=True) + 1e-6).sqrt()
        hidden = F.leaky_relu(self.project(scaled), 0.2)
        logits: Tensor = self.judge(F.leaky_relu(self.mix(hidden), 0.2))
        return logits


class Adversary:
    """The heads and their optimizer; the features are frozen and never trained."""

    def __init__(self, device: torch.device) -> None:
        self.heads = nn.ModuleDict({str(level): Head(channels) for level, channels in LEVELS.items()}).to(device)
        self.optimizer = torch.optim.AdamW(self.heads.parameters(), LEARNING_RATE, betas=(0.5, 0.95))

    def _logits(self, features: list[Tensor]) -> list[Tensor]:
        return [head(features[int(level)]) for level, head in self.heads.items()]

    def generator_loss(self, features: list[Tensor]) -> Tensor:
        """Return how far the reconstruction with these features is from passing for a photograph: a scalar."""
        self.heads.requires_grad_(False)
        loss = -torch.stack([logits.mean() for logits in self._logits(features)]).mean()
        self.heads.requires_grad_(True)
        return loss

    def learn(self, real: list[Tensor], made: list[Tensor]) -> Tensor:
        """Take one step of the discriminator by the hinge loss (Lim and Ye, 2017), and return that loss."""
        losses = [F.relu(1 - logits).mean() for logits in self._logits([level.detach() for level in real])]
        losses += [F.relu(1 + logits).mean() for logits in self._logits([level.detach() for level in made])]
        loss = torch.stack(losses).sum() / len(self.heads)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        return {"heads": self.heads.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.heads.load_state_dict(state["heads"])
        self.optimizer.load_state_dict(state["optimizer"])
