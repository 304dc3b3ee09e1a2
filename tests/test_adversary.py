"""The discriminator learns, resumes, and leaves the features' networks alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from tests.support.paths import outside
from uigc.bench.metrics import Networks
from uigc.training.adversary import LEVELS, Adversary
from uigc.training.tokenizer import WEIGHTS, Loss

CPU = torch.device("cpu")


def features(seed: int, photograph: bool) -> list[Tensor]:
    """Features with the shapes of DISTS'; those of photographs vary from place to place."""
    generator = torch.Generator().manual_seed(seed)
    levels = []
    for channels, side in ((3, 32), (64, 32), (128, 16), (256, 8), (512, 4), (512, 2)):
        values = torch.rand(2, channels, side, side, generator=generator)
        levels.append(values if photograph else values.mean((2, 3), keepdim=True).expand_as(values).contiguous())
    return levels


@pytest.fixture
def learned() -> Adversary:
    torch.manual_seed(0)
    adversary = Adversary(CPU)
    losses = [float(adversary.learn(features(step, True), features(-step - 1, False))) for step in range(60)]
    assert losses[-1] < 0.5 * losses[0]
    return adversary


def test_it_tells_photographs_apart(learned: Adversary) -> None:
    assert learned.generator_loss(features(100, True)) < learned.generator_loss(features(101, False)) - 0.5


def test_the_generator_gets_a_gradient_and_the_heads_none(learned: Adversary) -> None:
    made = [level.requires_grad_() for level in features(100, False)]
    learned.optimizer.zero_grad()
    learned.generator_loss(made).backward()
    assert all(float(made[level].grad.abs().sum()) > 0 for level in LEVELS)  # type: ignore[union-attr]
    assert all(parameter.grad is None and parameter.requires_grad for parameter in learned.heads.parameters())


def test_it_resumes(learned: Adversary) -> None:
    other = Adversary(CPU)
    other.load_state_dict(copy.deepcopy(learned.state_dict()))
    pair = features(200, True), features(201, False)
    assert learned.learn(*pair) == other.learn(*pair)
    assert learned.generator_loss(pair[1]) == other.generator_loss(pair[1])


def test_the_loss_uses_it(learned: Adversary) -> None:
    networks = Networks(outside("perceptual") / "nets.safetensors")
    loss = Loss(networks, WEIGHTS)
    torch.manual_seed(0)
    photographs = torch.rand(5, 3, 64, 64)
    image = torch.rand(5, 3, 64, 64, requires_grad=True)
    torch.manual_seed(1)  # both at the same phase
    plain = loss(image, photographs)
    torch.manual_seed(1)
    judged = loss(image, photographs, adversary=learned)
    assert set(judged.figures) == {"l1", "lpips", "dists", "adversarial"}
    assert len(judged.made[0]) == len(judged.real[0]) == 1  # a fifth of the batch
    expected = plain.total + WEIGHTS.adversarial * judged.figures["adversarial"]
    assert torch.allclose(judged.total, expected, atol=1e-6)
    judged.total.backward()
    assert image.grad is not None
    assert bool((image.grad.flatten(1).abs().sum(1) > 0).all())
    assert not any(parameter.requires_grad for parameter in networks.parameters())
    assert set(loss(image, photographs, perceptual=False).figures) == {"l1"}
