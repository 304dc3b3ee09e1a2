"""The VQGAN of "Taming Transformers" (Esser, Rombach and Ommer, CVPR 2021), for use with its trained weights.

Submodules have the names that its checkpoints use; :mod:`uigc.export.modules.taming` reads these checkpoints. Group
norms and attention see the whole image, so an image cannot be coded in tiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uigc.export.modules.interface import Codebook, Config, VQTokenizer, lost_score

GROUPS = 32  # of every norm
EPSILON = 1e-6


@dataclass(frozen=True)
class VQGANConfig(Config):
    """The size of a VQGAN; the names of its original configuration are in parentheses.

    ``codebook`` codewords (``n_embed``) of ``dim`` dimensions (``embed_dim``). At level i, which is 1/2^i of the
    resolution, ``width * multipliers[i]`` channels (``ch``, ``ch_mult``) and ``blocks`` residual blocks
    (``num_res_blocks``; in the decoder one more), each followed by attention at the levels ``encoder_attention`` and
    ``decoder_attention``. ``latent`` channels between encoder and codebook (``z_channels``).
    """

    kind: ClassVar[str] = "vqgan"
    local: ClassVar[bool] = False

    codebook: int = 1024
    dim: int = 256
    width: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    encoder_attention: tuple[int, ...] = (4,)
    decoder_attention: tuple[int, ...] = (4,)
    latent: int = 256

    def channels(self, level: int) -> int:
        return self.width * self.multipliers[level]


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(GROUPS, channels, EPSILON)


class Residual(nn.Module):
    """A residual block: twice a group norm, a swish and a 3x3 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = _norm(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return change + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class Attention(nn.Module):
    """One head over all positions of the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        # Scale both operands, so that their products stay in the range of half precision.
        scale = x.shape[1] ** -0.25
        query, key = (self.q(normed) * scale).flatten(2), (self.k(normed) * scale).flatten(2)
        weights = torch.softmax(query.transpose(1, 2) @ key, 2)
        context = self.v(normed).flatten(2) @ weights.transpose(1, 2)
        return x + self.proj_out(context.view_as(x))


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return halved


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        doubled: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return doubled


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention if ``attention``, then a change of resolution."""

    def __init__(self, channels: list[int], attention: bool, resample: Mapping[str, nn.Module]) -> None:
        """``channels``: before the first block and after each block; ``resample``: at most one module, by its name."""
        super().__init__()
        pairs = list(pairwise(channels))
        self.block = nn.ModuleList(Residual(*pair) for pair in pairs)
        self.attn = nn.ModuleList(Attention(outputs) for _, outputs in pairs if attention)
        self.resample = next(iter(resample), None)
        for name, module in resample.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[index](x)
        return getattr(self, self.resample)(x) if self.resample else x


class Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1, self.block_2 = Residual(channels, channels), Residual(channels, channels)
        self.attn_1 = Attention(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return out


class Encoder(nn.Module):
    """image (B, 3, 16h, 16w) in [0, 1] -> latents (B, dim, h, w)."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        last = len(config.multipliers) - 1
        self.conv_in = nn.Conv2d(3, config.width, 3, padding=1)
        self.down = nn.ModuleList()
        inputs = config.width
        for level in range(last + 1):
            channels = config.channels(level)
            resample = {"downsample": Downsample(channels)} if level < last else {}
            path = [inputs, *[channels] * config.blocks]
            self.down.append(Level(path, level in config.encoder_attention, resample))
            inputs = channels
        self.mid = Middle(inputs)
        self.norm_out = _norm(inputs)
        self.conv_out = nn.Conv2d(inputs, config.latent, 3, padding=1)
        self.quant_conv = nn.Conv2d(config.latent, config.dim, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv_in(image * 2 - 1)
        for level in self.down:
            x = level(x)
        latents: Tensor = self.quant_conv(self.conv_out(F.silu(self.norm_out(self.mid(x)))))
        return latents


class Decoder(nn.Module):
    """codewords (B, dim, h, w) -> image (B, 3, 16h, 16w), about [0, 1]."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        last = len(config.multipliers) - 1
        inputs = config.channels(last)
        self.post_quant_conv = nn.Conv2d(config.dim, config.latent, 1)
        self.conv_in = nn.Conv2d(config.latent, inputs, 3, padding=1)
        self.mid = Middle(inputs)
        levels: list[nn.Module] = []
        for level in range(last, -1, -1):
            channels = config.channels(level)
            resample = {"upsample": Upsample(channels)} if level > 0 else {}
            path = [inputs, *[channels] * (config.blocks + 1)]
            levels.append(Level(path, level in config.decoder_attention, resample))
            inputs = channels
        self.up = nn.ModuleList(reversed(levels))  # named from the finest; used from the coarsest
        self.norm_out = _norm(inputs)
        self.conv_out = nn.Conv2d(inputs, 3, 3, padding=1)

    def forward(self, codewords: Tensor) -> Tensor:
        x = self.mid(self.conv_in(self.post_quant_conv(codewords)))
        for level in reversed(self.up):
            x = level(x)
        image: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return image * 0.5 + 0.5


class Quantizer(Codebook):
    """A codebook in which a latent becomes the nearest codeword."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.register_buffer("words", torch.randn(config.codebook, config.dim))
        # The offset -|c|^2 / 2 of each codeword c: |z - c|^2 = |z|^2 - 2 (z·c + offset). Graphs hold it as a constant.
        self.offsets: Tensor
        self.register_buffer("offsets", torch.empty(config.codebook), persistent=False)
        self.register_load_state_dict_post_hook(_refresh)  # type: ignore[no-untyped-call]
        _refresh(self)

    def scores(self, latents: Tensor) -> Tensor:
        """Return minus half the squared distance to every codeword, plus half the latent's squared length."""
        return F.conv2d(latents, self.words[:, :, None, None], self.offsets)

    def look_up(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.words).permute(0, 3, 1, 2)

    def shortfall(self, latents: Tensor, tokens: Tensor) -> Tensor:
        scores = self.scores(latents)
        squares = latents.square().sum(1) - 2 * scores.mean(1)  # mean squared distances to all codewords
        return 2 * lost_score(scores, tokens) / squares.mean()


@torch.no_grad()
def _refresh(quantizer: Quantizer, unused: Any = None) -> None:
    quantizer.offsets.copy_(-0.5 * quantizer.words.double().square().sum(1))


class VQGAN(VQTokenizer):
    config: VQGANConfig
    quantizer: Quantizer

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = Quantizer(config)
        self.decoder = Decoder(config)

    def with_codewords(self, codewords: Tensor) -> VQGAN:
        """Return the same networks with other ``codewords`` (codebook, dim)."""
        other = VQGAN(replace(self.config, codebook=len(codewords)))
        other.load_state_dict({**self.state_dict(), "quantizer.words": codewords})
        return other.eval()
