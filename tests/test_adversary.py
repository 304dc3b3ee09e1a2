"""The adversaries learn, resume, and leave the features' networks alone."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from uigc.runtime.errors import InputError
from uigc.training.adversary import ADVERSARIES, LEVELS, Adversaries

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
def learned() -> Adversaries:
    torch.manual_seed(0)
    adversary = Adversaries(CPU)
    losses = [float(adversary.learn(features(step, True), features(-step - 1, False))) for step in range(60)]
    assert losses[-1] < 0.5 * losses[0]
    return adversary


def test_they_tell_photographs_apart(learned: Adversaries) -> None:
    photograph, made = (learned.generator_losses(features(100 + made, not made)) for made in (False, True))
    for name in photograph:
        assert photograph[name] < made[name] - 0.5, name


def test_the_image_gets_a_gradient_and_the_adversaries_none(learned: Adversaries) -> None:
    made = [level.requires_grad_() for level in features(100, False)]
    learned.optimizer.zero_grad()
    judged = torch.stack([*learned.generator_losses(made).values()]).sum()
    for gradient in torch.autograd.grad(judged, [made[level] for level in (0, *LEVELS)]):
        assert float(gradient.abs().sum()) > 0
    modules = learned.features, learned.pixels
    assert all(weight.grad is None and weight.requires_grad for module in modules for weight in module.parameters())


def test_they_resume(learned: Adversaries) -> None:
    other = Adversaries(CPU)
    other.load_state_dict(copy.deepcopy(learned.state_dict()))
    pair = features(200, True), features(201, False)
    assert learned.learn(*pair) == other.learn(*pair)
    assert learned.generator_losses(pair[1]) == other.generator_losses(pair[1])


def test_a_rate_of_zero_teaches_nothing(learned: Adversaries) -> None:
    before = learned.generator_losses(features(1, False))["adversary_features"]
    learned.learn(features(200, True), features(201, False), pace=0.0)
    assert learned.generator_losses(features(1, False))["adversary_features"] == before


def test_what_is_not_finite_teaches_nothing(learned: Adversaries, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a loss that is not finite, nor a gradient that is not while its loss is."""
    pair = features(200, True), features(201, False)
    before = {name: value.clone() for name, value in learned.features.state_dict().items()}
    broken = [level.clone() for level in pair[0]]
    broken[2][0, 0, 0, 0] = float("nan")
    assert not torch.isfinite(learned.learn(broken, pair[1]))
    weight = learned.features.heads[1].m.weight
    hook = weight.register_hook(lambda gradient: gradient * float("inf"))
    assert torch.isfinite(learned.learn(*pair))
    hook.remove()
    assert all(torch.equal(value, before[name]) for name, value in learned.features.state_dict().items())
    learned.learn(*pair)
    after = learned.features.state_dict()
    assert all(torch.isfinite(value).all() and not torch.equal(value, before[name]) for name, value in after.items())


def test_another_run_goes_on_from_them(learned: Adversaries, tmp_path: Path) -> None:
    other, made = Adversaries(CPU), features(201, False)
    learned.save(tmp_path)
    other.start_from(tmp_path / ADVERSARIES)
    assert other.warm
    assert not learned.warm
    assert learned.generator_losses(made) == other.generator_losses(made)
    (tmp_path / ADVERSARIES).write_bytes(b"nothing")
    with pytest.raises(InputError, match="both adversaries"):
        other.start_from(tmp_path / ADVERSARIES)
