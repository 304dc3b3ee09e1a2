"""The interface of every kind of tokenizer to the training recipes, the exporter and the bundles.

A tokenizer has a ``config``, an ``encoder`` (images to latents), a ``quantizer`` (latents to tokens, tokens to
codewords) and a ``decoder`` (codewords to images). Images are in [0, 1], whatever range the networks were trained on,
and a token covers 16x16 pixels. :func:`uigc.export.modules.checkpoint.make_tokenizer` creates any kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """The configuration of a tokenizer.

    ``kind``: its name in files; ``local``: True if a change of the image affects only tokens and pixels near it, so
    that a tile with a halo gives the same result as the whole image; ``codebook``: number of codewords.
    """

    kind: ClassVar[str]
    local: ClassVar[bool]

    codebook: int = 256

    def to_json(self) -> dict[str, object]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def to_metadata(self) -> dict[str, object]:
        """Return the JSON of checkpoints and bundles: :meth:`to_json`, with ``kind`` and ``local``."""
        return {"kind": self.kind, "local": self.local, **self.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the result of :meth:`to_json` or :meth:`to_metadata`."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            value = data[field.name]
            values[field.name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)


class Codebook(nn.Module):
    """The codewords and the rule that assigns one of them to a latent.

    ``words`` (codebook, dim): the codewords, under the name that checkpoints and bundles use.
    """

    words: Tensor

    @property
    def ready(self) -> bool:
        """True once there are codewords to export."""
        return True

    def scores(self, latents: Tensor) -> Tensor:
        """latents (B, dim, h, w) -> scores (B, codebook, h, w); the codeword with the largest score wins."""
        raise NotImplementedError

    def assign(self, latents: Tensor) -> Tensor:
        """latents (B, dim, h, w) -> tokens int64 (B, h, w)."""
        return self.scores(latents).argmax(1)

    def look_up(self, tokens: Tensor) -> Tensor:
        """tokens (B, h, w) -> codewords (B, dim, h, w)."""
        raise NotImplementedError

    def shortfall(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """Return how much worse ``tokens`` (B, h, w) are for ``latents`` than the best codewords: (B, h, w).

        0 for the best codeword; 1 for one at a right angle to a latent that equals another codeword.
        """
        raise NotImplementedError


def lost_score(scores: Tensor, tokens: Tensor) -> Tensor:
    """Return how far the ``scores`` (B, codebook, h, w) of ``tokens`` int64 (B, h, w) are below the best: (B, h, w)."""
    return scores.amax(1) - scores.gather(1, tokens[:, None])[:, 0]


class VQTokenizer(nn.Module):
    """A vector-quantizing tokenizer.

    ``encoder``: image (B, 3, 16h, 16w) in [0, 1] -> latents (B, dim, h, w); ``decoder``: codewords (B, dim, h, w) ->
    image (B, 3, 16h, 16w), about [0, 1].
    """

    config: Config
    encoder: nn.Module
    quantizer: Codebook
    decoder: nn.Module


class ImageToTokens(nn.Module):
    """Encoder and quantizer, for export: image (B, 3, H, W) in [0, 1] -> tokens int32 (B, H/16, W/16)."""

    def __init__(self, tokenizer: VQTokenizer) -> None:
        super().__init__()
        self.encoder, self.quantizer = tokenizer.encoder, tokenizer.quantizer

    def forward(self, image: Tensor) -> Tensor:
        return self.quantizer.assign(self.encoder(image)).to(torch.int32)


class TokensToImage(nn.Module):
    """Codebook and pixel decoder, for export: tokens int32 (B, h, w) -> image (B, 3, 16h, 16w) in [0, 1]."""

    def __init__(self, tokenizer: VQTokenizer) -> None:
        super().__init__()
        self.quantizer, self.decoder = tokenizer.quantizer, tokenizer.decoder

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.clamp(self.decoder(self.quantizer.look_up(tokens)), 0, 1)
