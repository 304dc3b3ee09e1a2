"""The prior's optimizers, and the products of its training."""

from __future__ import annotations

import random
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.tiny import tiny_modules
from uigc.export.modules import dyadic
from uigc.export.modules.dyadic import Linear
from uigc.export.modules.prior import Prior, PriorConfig
from uigc.export.modules.quantized import quantized_once
from uigc.runtime.format.schedule import quincunx
from uigc.training.loop import RunOptions
from uigc.training.prior import RATES, _tokenized, batch_loss, batch_of, optimizers_of, short_products


def test_short_products_change_no_loss_and_end() -> None:
    """What a dyadic prior multiplies fits bfloat16, in training too; nothing else of the process is shortened."""
    prior = tiny_modules(4)[1].prior.train()
    grids = [torch.randint(prior.config.codebook, (20, 21)) for _ in range(4)]
    rng = random.Random(0)
    batches = [batch_of(grids, prior, 4, rng) for _ in prior.schedule.stages]
    losses = []
    before = torch.get_float32_matmul_precision()
    for products in (nullcontext, short_products):
        with products():
            torch.manual_seed(0)
            losses.append(batch_loss(prior, batches).detach())
    assert torch.equal(*losses)
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(KeyboardInterrupt), short_products():
        raise KeyboardInterrupt
    assert torch.get_float32_matmul_precision() == before


def test_quantizing_once_changes_neither_loss_nor_gradient_and_ends() -> None:
    prior = tiny_modules(4)[1].prior.train()
    dyadic.thaw(prior)
    tokens = torch.randint(prior.config.codebook, (2, 16, 16))

    def loss() -> torch.Tensor:
        return torch.stack([prior(tokens, stage).square().mean() for stage in range(len(prior.schedule))]).sum()

    found = []
    for quantizing in (nullcontext, lambda: quantized_once(prior)):
        prior.zero_grad()
        with quantizing():
            total = loss()
        total.backward()  # type: ignore[no-untyped-call]
        found.append((total.detach(), [part.grad.double() for part in prior.parameters() if part.grad is not None]))
    assert torch.equal(found[0][0], found[1][0])
    assert len(found[0][1]) == len(found[1][1]) > 10
    for plain, once in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(plain, once, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        prior.head.weight.mul_(2)  # seen by the next call, so nothing is kept
        assert not torch.equal(loss(), total)


@pytest.mark.skipif(not torch.cpu._is_amx_tile_supported(), reason="this CPU has no bfloat16 products to shorten for")
def test_short_products_shorten_what_bfloat16_does_not_hold() -> None:
    """The test above says something, because products are shortened here."""
    torch.manual_seed(0)
    x, weight = torch.randn(256, 256), torch.randn(256, 256)
    whole = torch.nn.functional.linear(x, weight)
    with short_products():
        short = torch.nn.functional.linear(x, weight)
    assert not torch.equal(short, whole)
    assert torch.allclose(short, x.bfloat16().float() @ weight.bfloat16().float().t(), atol=1e-3)


def test_held_out_tokens_are_the_same_with_variants(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for index in range(4):
        pixels = rng.integers(0, 256, (290, 301, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.png")
    tokenizer = tiny_modules(2)[0]
    found = []
    for variants in (1, 2):
        options = RunOptions(tmp_path / "images", tmp_path, 1, None, 1, 7, torch.device("cpu"))
        training, held_out = _tokenized(options, tokenizer, f"of {variants}", variants)
        assert len(training) == variants * 4
        found.append(held_out)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_muon_trains_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    prior = Prior(PriorConfig(32, 64, 2, 2, 2), quincunx())
    members = optimizers_of(prior, 0.5).members
    trained = {name: [w for g in member.param_groups for w in g["params"]] for name, member in members.items()}
    layers = [part.weight for part in prior.blocks.modules() if isinstance(part, Linear)]
    assert {id(weight) for weight in trained["muon"]} == {id(weight) for weight in layers}
    both = [id(weight) for weights in trained.values() for weight in weights]
    assert sorted(both) == sorted(map(id, prior.parameters()))
    assert members["muon"].param_groups[0]["highest"] == RATES.muon / 2
