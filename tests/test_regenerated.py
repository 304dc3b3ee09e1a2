"""Grids for the pixel decoder are those that the runtime's decoder ends with."""

from __future__ import annotations

import random

import numpy as np
import torch

from tests.conftest import tiny_modules
from uigc.export.modules.checkpoint import frozen_prior
from uigc.runtime import Codec, mask
from uigc.runtime.mask import MODES
from uigc.training.regenerated import Cut, cuts, draw, regenerate


def test_lost_tokens_are_those_of_the_runtime(tiny: Codec, sample: np.ndarray) -> None:
    pixels = sample[: 16 * 23, : 16 * 37]
    tokens = tiny.tokenize(pixels)
    prior = frozen_prior(tiny.bundle)
    for name in ("edge", "edge_more"):
        encoded = tiny.encode_tokens(tokens, pixels, MODES[name])
        padded = np.pad(tokens, ((0, 9), (0, 11)), constant_values=prior.config.pad)
        lost = np.pad(~encoded.sent, ((0, 9), (0, 11)))
        made = regenerate(prior, torch.from_numpy(padded)[None].long(), torch.from_numpy(lost)[None])
        assert torch.equal(made[0, :23, :37], torch.from_numpy(encoded.grid).long())
        assert bool((made[0, 23:] == prior.config.pad).all())


def test_crops_keep_pictures_and_tokens_together(sample: np.ndarray) -> None:
    tokenizer, trained = tiny_modules(3)
    image = torch.from_numpy(sample[:150, :170].copy()).permute(2, 0, 1)
    (made,) = cuts(tokenizer, trained.prior.freeze(), [image], random.Random(1))
    assert made.image.shape == (3, 144, 160)
    assert made.tokens.shape == (9, 10)
    with torch.no_grad():
        tokens = tokenizer.quantizer.assign(tokenizer.encoder(made.image[None].float() / 255))[0]
    edges = mask.edge_blocks(made.image.permute(1, 2, 0).numpy(), 16)
    always = mask.sent_tokens(MODES["edge_more"], edges, trained.prior.schedule, 9, 10)
    assert torch.equal(made.tokens.long()[always], tokens[always])
    numbered = torch.arange(90).view(9, 10)
    pixels = numbered.repeat_interleave(16, 0).repeat_interleave(16, 1).to(torch.uint8).expand(3, -1, -1)
    images, grids = draw([Cut(pixels, numbered.to(torch.int16))], 5, 64, random.Random(2))
    assert images.shape == (5, 3, 64, 64)
    assert torch.equal((images[:, 0, ::16, ::16] * 255).round().long(), grids)
