"""What a tokenizer is to the recipes, the exporter and the bundles, whichever kind it is.

It has a ``config``, an ``encoder`` (images to latents), a ``quantizer`` (latents to tokens, tokens to codewords) and
a ``decoder`` (codewords to images). Images are in [0, 1] whatever the networks inside were trained on, and a token
covers 16x16 pixels. :func:`uigc.export.modules.checkpoint.make_tokenizer` knows the kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """``codebook`` words; ``kind`` names the kind in files. ``local``: whether a change of the image reaches pixels
    and tokens near it only, so that a tile with a halo gives what the whole image gives."""

    kind: ClassVar[str]
    local: ClassVar[bool]

    codebook: int = 256

    def to_json(self) -> dict[str, object]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def stated(self) -> dict[str, object]:
        """As checkpoints and bundles state it, with what tells the kinds apart."""
        return {"kind": self.kind, "local": self.local, **self.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """From either of the two."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            value = data[field.name]
            values[field.name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)


class Codebook(nn.Module):
    """``words`` (codebook, dim) and the rule by which a latent becomes one of them."""

    words: Tensor

    @property
    def ready(self) -> bool:
        """Whether there are words to export."""
        return True

    def scores(self, latents: Tensor) -> Tensor:
        """latents (B, dim, h, w) -> (B, codebook, h, w); the largest wins."""
        raise NotImplementedError

    def assign(self, latents: Tensor) -> Tensor:
        """latents (B, dim, h, w) -> tokens int64 (B, h, w)."""
        return self.scores(latents).argmax(1)

    def look_up(self, tokens: Tensor) -> Tensor:
        """tokens (B, h, w) -> codewords (B, dim, h, w)."""
        raise NotImplementedError

    def shortfall(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """How much worse ``tokens`` (B, h, w) are for ``latents`` than the best words are: (B, h, w), 0 for the best, 1
        for a word at a right angle to a latent that another meets."""
        raise NotImplementedError


def lost_score(scores: Tensor, tokens: Tensor) -> Tensor:
    """How far the ``scores`` (B, codebook, h, w) of ``tokens`` int64 (B, h, w) are below the best: (B, h, w)."""
    return scores.amax(1) - scores.gather(1, tokens[:, None])[:, 0]


class VQTokenizer(nn.Module):
    """``encoder``: image (B, 3, 16h, 16w) in [0, 1] -> latents (B, dim, h, w); ``decoder``: codewords (B, dim, h, w) ->
    image (B, 3, 16h, 16w), about [0, 1]."""

    config: Config
    encoder: nn.Module
    quantizer: Codebook
    decoder: nn.Module


class ImageToTokens(nn.Module):
    """Encoder and quantizer as exported: image (B, 3, H, W) in [0, 1] -> tokens int32 (B, H/16, W/16)."""

    def __init__(self, tokenizer: VQTokenizer) -> None:
        super().__init__()
        self.encoder, self.quantizer = tokenizer.encoder, tokenizer.quantizer

    def forward(self, image: Tensor) -> Tensor:
        return self.quantizer.assign(self.encoder(image)).to(torch.int32)


class TokensToImage(nn.Module):
    """Codebook and pixel decoder as exported: tokens int32 (B, h, w) -> image (B, 3, 16h, 16w) in [0, 1]."""

    def __init__(self, tokenizer: VQTokenizer) -> None:
        super().__init__()
        self.quantizer, self.decoder = tokenizer.quantizer, tokenizer.decoder

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.clamp(self.decoder(self.quantizer.look_up(tokens)), 0, 1)
