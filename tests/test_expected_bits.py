"""The rate that an encoder descends, and the ways that gradients take to it."""

from __future__ import annotations

import pytest
import torch

from uigc.export import modules
from uigc.export.modules.prior import Prior, PriorConfig
from uigc.export.modules.tokenizer import Tokenizer, TokenizerConfig
from uigc.runtime.format.schedule import quincunx
from uigc.training.encoder import choose, expected_bits
from uigc.training.prior import evaluate


def test_expected_bits_of_certain_tokens_are_those_of_the_prior() -> None:
    prior = Prior(PriorConfig(16, 32, 2, 2, 2), quincunx(), modules.dyadic)
    tokens = torch.randint(16, (2, 9, 12))
    certain = torch.nn.functional.one_hot(tokens, 16).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        wanted = evaluate(prior, list(tokens))["held_out_bits_per_token"]
    assert round(float(expected_bits(prior, tokens, certain)), 4) == pytest.approx(wanted, abs=2e-4)  # float sums
    even = torch.full_like(certain, 1 / 16)
    even.requires_grad_()
    expected_bits(prior, tokens, even).backward()
    assert even.grad is not None
    assert bool((even.grad > 0).all())


def test_gradients_reach_latents_through_the_choice() -> None:
    tokenizer = Tokenizer(TokenizerConfig(16, 8, (8, 8, 8), (1, 1, 1), (8, 8, 8, 8), (1, 1, 1, 1)))
    latents = torch.randn(2, 8, 3, 4, requires_grad=True)
    choice = choose(tokenizer.quantizer, latents)
    assert torch.equal(choice.tokens, tokenizer.quantizer.assign(latents))
    assert torch.allclose(choice.codewords, tokenizer.quantizer.look_up(choice.tokens), atol=1e-6)
    assert torch.equal(choice.chances.argmax(1), choice.tokens)
    for value in (choice.codewords.square().sum() + choice.codewords.sum(), choice.chances.amax(), choice.commitment):
        (gradient,) = torch.autograd.grad(value, latents, retain_graph=True)
        assert float(gradient.abs().sum()) > 0
