"""The tokenizer: a VQ image model of local operations only.

It has convolutions and a channel norm for each pixel, but neither GroupNorm nor global attention, so that a tile with a
halo gives the same pixels as the whole image. The finest convolutions of the encoder run at a quarter of the
resolution, those of the decoder at half of it, between pixel unshuffle and pixel shuffle. Codewords have few dimensions
and unit length (ViT-VQGAN, ICLR 2022), so that the whole codebook is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uigc.export.modules.interface import Codebook, Config, VQTokenizer, lost_score
from uigc.runtime.errors import InputError
from uigc.runtime.format.bitstream import PATCH

UNSHUFFLE = 4  # pixels each way that enter the encoder as one position
DECODER_STAGES = (3, 4)
TRAINING_STATE = ("quantizer.sums", "quantizer.counts", "quantizer.fitted")
"""What only training needs of a tokenizer's state; bundles do without it."""


@dataclass(frozen=True)
class TokenizerConfig(Config):
    """The size of a tokenizer: ``codebook`` codewords of ``dim`` dimensions; channels and residual blocks of every
    stage of the networks, the finest stage first.

    ``encoder_widths``, ``encoder_blocks``: at 1/4, 1/8 and 1/16 of the resolution. ``decoder_widths``,
    ``decoder_blocks``: of four stages, at 1/2, 1/4, 1/8 and 1/16, or of three, at 1/4, 1/8 and 1/16. Raises
    :class:`InputError` for other numbers of stages.
    """

    kind: ClassVar[str] = "uigc"
    local: ClassVar[bool] = True

    dim: int = 12
    encoder_widths: tuple[int, ...] = (96, 192, 256)
    encoder_blocks: tuple[int, ...] = (1, 2, 3)
    decoder_widths: tuple[int, ...] = (32, 96, 192, 384)
    decoder_blocks: tuple[int, ...] = (1, 2, 2, 4)

    def __post_init__(self) -> None:
        if not len(self.encoder_widths) == len(self.encoder_blocks) == 3:
            raise InputError(
                f"The encoder has {len(self.encoder_widths)} widths and {len(self.encoder_blocks)} numbers of blocks; "
                "give three of each, for 1/4, 1/8 and 1/16 of the resolution."
            )
        if len(self.decoder_widths) not in DECODER_STAGES or len(self.decoder_widths) != len(self.decoder_blocks):
            raise InputError(
                f"The decoder has {len(self.decoder_widths)} widths and {len(self.decoder_blocks)} numbers of blocks; "
                "give four of each, for 1/2, 1/4, 1/8 and 1/16 of the resolution, or three without 1/2."
            )

    @property
    def shuffle(self) -> int:
        """Pixels each way that leave the decoder's finest stage as one position: 2 or 4."""
        return int(PATCH >> (len(self.decoder_widths) - 1))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the result of :meth:`to_json`; before decoders had widths of their own, ``widths`` were those of both
        networks."""
        if "widths" in data:
            data = {**data, "encoder_widths": data["widths"], "decoder_widths": data["widths"]}
        return super().from_json(data)


class Residual(nn.Module):
    """A residual block: RMS norm over the channels of each pixel, two 3x3 convolutions, and a learned gain."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]
        self.gain = nn.Parameter(torch.full((1, channels, 1, 1), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        normed = x * torch.rsqrt((x * x).mean(1, keepdim=True) + 1e-4)
        return x + self.gain * self.second(F.silu(self.first(normed)))


def _blocks(channels: int, count: int) -> list[nn.Module]:
    return [Residual(channels) for _ in range(count)]


class Encoder(nn.Module):
    """image (B, 3, H, W) in [0, 1], H and W multiples of 16 -> latents (B, dim, H/16, W/16)."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.encoder_widths
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(UNSHUFFLE),
            nn.Conv2d(3 * UNSHUFFLE**2, fine, 3, padding=1),
            *_blocks(fine, config.encoder_blocks[0]),
            nn.Conv2d(fine, middle, 4, stride=2, padding=1),
            *_blocks(middle, config.encoder_blocks[1]),
            nn.Conv2d(middle, coarse, 4, stride=2, padding=1),
            *_blocks(coarse, config.encoder_blocks[2]),
            nn.Conv2d(coarse, config.dim, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        latents: Tensor = self.layers(image * 2 - 1)
        return latents


class Decoder(nn.Module):
    """codewords (B, dim, h, w) -> image (B, 3, 16h, 16w), about [0, 1]."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        width, *finer = reversed(config.decoder_widths)
        count, *counts = reversed(config.decoder_blocks)
        layers = [nn.Conv2d(config.dim, width, 3, padding=1), *_blocks(width, count)]
        for next_width, count in zip(finer, counts, strict=True):
            layers += [nn.Conv2d(width, next_width * 4, 1), nn.PixelShuffle(2), *_blocks(next_width, count)]
            width = next_width
        layers += [nn.Conv2d(width, 3 * config.shuffle**2, 3, padding=1), nn.PixelShuffle(config.shuffle)]
        self.layers = nn.Sequential(*layers)

    def forward(self, codewords: Tensor) -> Tensor:
        image: Tensor = self.layers(codewords)
        return image * 0.5 + 0.5


def unit(x: Tensor) -> Tensor:
    """Return the rows of ``x`` (n, dim), scaled to length 1."""
    return F.normalize(x, dim=1)


class Quantizer(Codebook):
    """A codebook of unit vectors; a latent becomes the codeword with the largest cosine.

    Codewords follow moving averages of the latents assigned to them (VQ-VAE, NeurIPS 2017, appendix A.1), and unused
    codewords restart at random latents. Until ``fit`` is called, nothing is quantized and training adds noise instead:
    a codebook that is learned from the first step collapses.
    """

    decay = 0.98
    restart_below = 0.02  # times the mean use

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        codewords = unit(torch.randn(config.codebook, config.dim))
        self.sums: Tensor
        self.counts: Tensor
        self.fitted: Tensor
        self.register_buffer("words", codewords)
        self.register_buffer("sums", codewords.clone())
        self.register_buffer("counts", torch.ones(config.codebook))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    @property
    def scale(self) -> float:
        """The length that codewords have when they enter the decoder."""
        return math.sqrt(self.words.shape[1])

    @property
    def ready(self) -> bool:
        return bool(self.fitted)

    def scores(self, latents: Tensor) -> Tensor:
        """Return the products with every codeword: cosines times the latents' length."""
        return F.conv2d(latents, self.words[:, :, None, None])

    def shortfall(self, latents: Tensor, tokens: Tensor) -> Tensor:
        return lost_score(self.scores(F.normalize(latents, dim=1)), tokens)

    def look_up(self, tokens: Tensor) -> Tensor:
        """tokens (B, h, w) -> codewords (B, dim, h, w)."""
        return F.embedding(tokens, self.words).permute(0, 3, 1, 2) * self.scale

    @torch.no_grad()
    def fit(self, latents: Tensor, rounds: int = 12) -> None:
        """Set the codewords by spherical k-means on ``latents`` (n, dim) of unit length."""
        codewords = latents[torch.randperm(len(latents), device=latents.device)[: len(self.words)]].clone()
        counts = self.counts
        for _ in range(rounds):
            nearest = (latents @ codewords.t()).argmax(1)
            counts = torch.bincount(nearest, minlength=len(codewords)).float()
            sums = torch.zeros_like(codewords).index_add_(0, nearest, latents)
            spare = latents[torch.randint(len(latents), (len(codewords),), device=latents.device)]
            codewords = torch.where(counts[:, None] > 0, unit(sums), spare)
        self.words.copy_(codewords)
        self.counts.copy_(counts.clamp_min(0.5))
        self.sums.copy_(codewords * self.counts[:, None])
        self.fitted.fill_(True)

    @torch.no_grad()
    def _follow(self, flat: Tensor, nearest: Tensor) -> None:
        """Update the moving averages with the latents ``flat`` (n, dim) and the tokens ``nearest`` (n,).

        A batch with a latent that is not finite is passed over: averages would keep it for ever.
        """
        if not bool(torch.isfinite(flat).all()):
            return
        use = torch.bincount(nearest, minlength=len(self.words)).float()
        self.counts.mul_(self.decay).add_(use, alpha=1 - self.decay)
        self.sums.mul_(self.decay).index_add_(0, nearest, flat, alpha=1 - self.decay)
        unused = (self.counts < self.restart_below * self.counts.mean()).nonzero()[:, 0]
        if len(unused):
            fresh = flat[torch.randint(len(flat), (len(unused),), device=flat.device)]
            self.sums[unused] = fresh * self.counts.mean()
            self.counts[unused] = self.counts.mean()
        self.words.copy_(unit(self.sums))

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Training: latents (B, dim, h, w) -> straight-through codewords (B, dim, h, w), commitment loss ()."""
        batch, dim, height, width = latents.shape
        flat = unit(latents.permute(0, 2, 3, 1).reshape(-1, dim))
        if bool(self.fitted):
            nearest = (flat @ self.words.t()).argmax(1)
            codewords = self.words[nearest]
            loss = (codewords - flat).square().sum(1).mean()
            self._follow(flat.detach(), nearest)
            codewords = flat + (codewords - flat).detach()
        else:
            codewords, loss = unit(flat + 0.1 * torch.randn_like(flat)), flat.new_zeros(())
        return codewords.view(batch, height, width, dim).permute(0, 3, 1, 2) * self.scale, loss


class Tokenizer(VQTokenizer):
    config: TokenizerConfig
    quantizer: Quantizer

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = Quantizer(config)
        self.decoder = Decoder(config)
