"""Grids for the pixel decoder are those that the runtime's decoder ends with."""

from __future__ import annotations

import random

import numpy as np
import torch

from tests.support.tiny import tiny_modules
from uigc.export.modules.checkpoint import frozen_prior
from uigc.runtime.bundle.manifest import CODEWORDS
from uigc.runtime.codec import Codec
from uigc.runtime.format import mask
from uigc.runtime.format.mask import MODES, Mask
from uigc.training.masks import Masker, count_mask_bits, regenerate
from uigc.training.regenerated import Crop, crops_with_losses, draw


def test_lost_tokens_are_those_of_the_runtime(tiny: Codec, sample: np.ndarray) -> None:
    pixels = sample[: 16 * 23, : 16 * 37]
    tokens = tiny.tokenize(pixels)
    prior = frozen_prior(tiny.bundle)
    for name in ("edge", "edge_more"):
        encoded = tiny.encode_tokens(tokens, pixels, MODES[name])
        padded = np.pad(tokens, ((0, 1), (0, 3)), constant_values=prior.config.pad)
        lost = np.pad(~encoded.sent, ((0, 1), (0, 3)))
        made = regenerate(prior, torch.from_numpy(padded)[None].long(), torch.from_numpy(lost)[None])
        assert torch.equal(made[0, :23, :37], torch.from_numpy(encoded.grid).long())
        assert bool((made[0, 23:] == prior.config.pad).all())


def test_encoders_keep_the_same_blocks_in_training(tiny: Codec, sample: np.ndarray) -> None:
    pixels = sample[: 16 * 23, : 16 * 37]
    tokens = tiny.tokenize(pixels)
    prior, words = frozen_prior(tiny.bundle), torch.from_numpy(tiny.bundle.weights.read(CODEWORDS)).float()
    for choice in map(Mask.parse, ("edge", "edge_more:0.2", "edge_more:0.1+draw9")):
        encoded = tiny.encode_tokens(tokens, pixels, choice)
        masker = Masker(prior, words, torch.from_numpy(tokens), choice)
        kept = masker.kept()
        grid = masker.back(kept)
        assert np.array_equal(grid.numpy(), encoded.grid)
        sent = mask.sent_tokens(choice.mode, kept.numpy(), tiny.bundle.schedule, *tokens.shape)
        assert np.array_equal(sent, encoded.sent)


def test_the_table_of_edge_bits_is_that_of_what_encoders_keep() -> None:
    tokenizer, trained = tiny_modules(5)
    grids = [torch.randint(16, (12, 20)) for _ in range(6)]
    table = count_mask_bits(trained.prior.freeze(), tokenizer.quantizer.words, grids, random.Random(2))
    assert table.shape == (1024,)
    assert int(table.min()) >= 64
    assert int(table[0]) < 32768  # fewer blocks are kept than not


def test_crops_keep_images_and_tokens_together(sample: np.ndarray) -> None:
    tokenizer, trained = tiny_modules(3)
    image = torch.from_numpy(sample[:150, :170].copy()).permute(2, 0, 1)
    (made,) = crops_with_losses(tokenizer, trained.prior.freeze(), [image], random.Random(1))
    assert made.image.shape == (3, 144, 160)
    assert made.tokens.shape == (9, 10)
    with torch.no_grad():
        tokens = tokenizer.quantizer.assign(tokenizer.encoder(made.image[None].float() / 255))[0]
    nothing = np.zeros((5, 5), bool)
    always = mask.sent_tokens(MODES["edge_more"], nothing, trained.prior.schedule, 9, 10)
    assert torch.equal(made.tokens.long()[always], tokens[always])
    assert not torch.equal(made.tokens.long(), tokens)
    numbered = torch.arange(90).view(9, 10)
    pixels = numbered.repeat_interleave(16, 0).repeat_interleave(16, 1).to(torch.uint8).expand(3, -1, -1)
    images, grids = draw([Crop(pixels, numbered.to(torch.int16))], 5, 64, random.Random(2))
    assert images.shape == (5, 3, 64, 64)
    assert torch.equal((images[:, 0, ::16, ::16] * 255).round().long(), grids)
