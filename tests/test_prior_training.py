"""The prior's optimizers, and the products of its training."""

from __future__ import annotations

import random
from contextlib import nullcontext

import pytest
import torch

from tests.support.tiny import tiny_modules
from uigc.export.modules.dyadic import Linear
from uigc.export.modules.prior import Prior, PriorConfig
from uigc.runtime.format.schedule import quincunx
from uigc.training.prior import RATES, batch_loss, optimizers_of, short_products


def test_short_products_change_no_loss_and_end() -> None:
    """What a dyadic prior multiplies fits bfloat16, in training too; nothing else of the process is shortened."""
    prior = tiny_modules(4)[1].prior.train()
    grids = [torch.randint(prior.config.codebook, (20, 21)) for _ in range(4)]
    losses = []
    before = torch.get_float32_matmul_precision()
    for products in (nullcontext, short_products):
        with products():
            torch.manual_seed(0)
            losses.append(batch_loss(prior, grids, 4, random.Random(0)).detach())
    assert torch.equal(*losses)
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(KeyboardInterrupt), short_products():
        raise KeyboardInterrupt
    assert torch.get_float32_matmul_precision() == before


def test_muon_trains_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    prior = Prior(PriorConfig(32, 64, 2, 2, 2), quincunx())
    members = optimizers_of(prior, 0.5).members
    trained = {name: [w for g in member.param_groups for w in g["params"]] for name, member in members.items()}
    layers = [part.weight for part in prior.blocks.modules() if isinstance(part, Linear)]
    assert {id(weight) for weight in trained["muon"]} == {id(weight) for weight in layers}
    both = [id(weight) for weights in trained.values() for weight in weights]
    assert sorted(both) == sorted(map(id, prior.parameters()))
    assert members["muon"].param_groups[0]["highest"] == RATES.muon / 2
