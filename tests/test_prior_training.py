"""The prior's optimizers, and the products of its training."""

from __future__ import annotations

import random
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.tiny import tiny_modules
from uigc.export.modules import dyadic
from uigc.export.modules.checkpoint import load_prior, load_tokenizer
from uigc.export.modules.dyadic import Linear
from uigc.export.modules.prior import Prior, PriorConfig
from uigc.export.modules.quantized import quantized_once
from uigc.runtime.errors import InputError
from uigc.runtime.format.schedule import quincunx
from uigc.training import prior_gradients
from uigc.training.loop import RunOptions
from uigc.training.masks import draw_lost
from uigc.training.prior import RATES, _tokenized, batch_of, optimizers_of, prior_for
from uigc.training.prior_gradients import Gradients, divided, short_products, stage_loss


def _batches(prior: Prior, count: int) -> list[torch.Tensor]:
    """Windows of random tokens for each stage, or a quarter as many grids of several windows."""
    grids = [torch.randint(prior.config.codebook, (20, 21)) for _ in range(4)]
    rng = random.Random(0)
    return [batch_of(grids, prior, count, rng) for _ in prior.schedule.stages]


def test_short_products_change_no_loss_and_end() -> None:
    """What a dyadic prior multiplies fits bfloat16, in training too; nothing else of the process is shortened."""
    prior = tiny_modules(4)[1].prior.train()
    batches = _batches(prior, 4)
    losses = []
    before = torch.get_float32_matmul_precision()
    for products in (nullcontext, short_products):
        with products(), Gradients(prior, 1) as gradients:
            torch.manual_seed(0)
            losses.append(gradients(batches))
    assert torch.equal(*losses)
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(KeyboardInterrupt), short_products():
        raise KeyboardInterrupt
    assert torch.get_float32_matmul_precision() == before


def test_quantizing_once_changes_neither_loss_nor_gradient_and_ends() -> None:
    prior = tiny_modules(4)[1].prior.train()
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


@pytest.mark.parametrize("threads", [1, 2, 3, 64])
def test_threads_share_the_work_and_change_no_gradient(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    prior = tiny_modules(4)[1].prior.train()
    batches = _batches(prior, 5)
    torch.manual_seed(1)
    lost = [draw_lost(prior.schedule, tokens) for tokens in batches]
    counted = [stage_loss(prior, *both, stage) for stage, both in enumerate(zip(batches, lost, strict=True))]
    loss = torch.stack([nats for nats, _ in counted]).sum() / sum(asked for _, asked in counted)
    expected = torch.autograd.grad(loss, list(prior.parameters()))
    shares = min(threads, sum(map(len, batches)))
    together, seen = threading.Barrier(shares, timeout=60), dict[int, int]()

    def watched(*given: Any) -> tuple[torch.Tensor, int]:
        if threading.get_ident() not in seen:
            seen[threading.get_ident()] = torch.get_num_threads()
            together.wait()  # all shares are under way, so none waits for the thread of another
        return stage_loss(*given)

    monkeypatch.setattr(prior_gradients, "stage_loss", watched)
    others, cores = threading.active_count(), torch.get_num_threads()
    with Gradients(prior, threads) as gradients:
        torch.manual_seed(1)
        assert torch.allclose(gradients(batches), loss.detach(), rtol=1e-5)
    assert len(seen) == shares
    assert set(seen.values()) == {max(1, cores // threads)}
    assert (threading.active_count(), torch.get_num_threads()) == (others, cores)
    for weight, gradient in zip(prior.parameters(), expected, strict=True):
        assert weight.grad is not None
        assert torch.allclose(weight.grad.double(), gradient.double(), rtol=1e-3, atol=1e-6)
    assert max(float(gradient.abs().max()) for gradient in expected) > 1e-3


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("sizes", [(4, 1, 4), (1, 1, 1), (0, 5, 2), (1,)])
def test_grids_are_given_to_one_thread_each(threads: int, sizes: tuple[int, ...]) -> None:
    batches = [100 * stage + torch.arange(size).view(-1, 1, 1) for stage, size in enumerate(sizes)]
    shares = divided([(tokens, -tokens) for tokens in batches], quincunx(), threads)
    assert len(shares) == min(threads, sum(sizes))
    assert all(sum(len(tokens) for tokens, _ in share) for share in shares)
    for stage, tokens in enumerate(batches):
        assert torch.cat([share[stage][0] for share in shares]).flatten().sort().values.equal(tokens.flatten())
    assert all(mine.equal(-lost) for share in shares for mine, lost in share)


def test_threads_get_equal_work_whatever_the_sizes() -> None:
    """Windows of every stage, and whole grids of one."""
    batches = [torch.zeros(16, 16, 16) for _ in range(6)]
    batches[2] = torch.zeros(4, 48, 32)
    active = [len(quincunx().active(stage)) for stage in range(6)]
    for threads in (2, 4):
        shares = divided([(tokens, tokens) for tokens in batches], quincunx(), threads)
        work = [sum(mine.numel() * each for (mine, _), each in zip(share, active, strict=True)) for share in shares]
        assert max(work) < 1.02 * min(work)


def test_a_thread_that_fails_ends_the_step_with_its_error() -> None:
    prior = tiny_modules(4)[1].prior.train()
    batches = _batches(prior, 4)
    batches[3] = batches[3] + prior.config.codebook  # tokens that there are not
    with Gradients(prior, 2) as gradients, pytest.raises(IndexError):
        gradients(batches)


def test_new_blocks_change_no_logit_until_they_learn(tiny_path: Path) -> None:
    tokenizer, before = load_tokenizer(tiny_path), load_prior(tiny_path).prior
    layers = before.config.layers
    tokens = torch.randint(before.config.codebook, (1, 32, 48))
    for more in (0, 1, 2):
        grown = prior_for(tokenizer, tiny_path, layers=layers + more)
        assert len(grown.blocks) == grown.config.layers == layers + more
        for stage in range(len(grown.schedule)):
            assert torch.equal(grown(tokens, stage), before(tokens, stage))
    frozen = [weight.detach().clone() for weight in grown.blocks[-1].parameters()]
    optimizers = optimizers_of(grown, 1.0)
    with Gradients(grown, 1) as gradients:
        for _ in range(2):  # what follows a zero matrix learns at once, and what precedes it one step later
            gradients(_batches(grown, 4))
            optimizers.step(1.0)
    learned = [not torch.equal(*both) for both in zip(frozen, grown.blocks[-1].parameters(), strict=True)]
    assert sum(learned) >= 0.8 * len(learned)
    with pytest.raises(InputError, match=f"has {layers} blocks, and {layers - 1} are asked for"):
        prior_for(tokenizer, tiny_path, layers=layers - 1)


def test_a_weight_in_real_units_is_not_thawed() -> None:
    prior = tiny_modules(4)[1].prior
    with pytest.raises(RuntimeError, match="not frozen"):
        dyadic.thaw(prior)
    before = prior.head.weight.detach().clone()
    frozen = prior.freeze().head.weight.detach().clone()
    dyadic.thaw(prior)
    assert torch.equal(prior.head.quantized(), frozen)
    assert torch.allclose(prior.head.weight, before, atol=float(before.abs().max()) / 60)
