"""The losses see what they are for, and the optimizers are those of the papers."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.support.paths import outside
from tests.support.tiny import TINY_TOKENIZER
from uigc.bench.metrics import Networks
from uigc.export.modules.tokenizer import Tokenizer
from uigc.training.loop import Run, RunOptions
from uigc.training.losses import LossWeights, Patterns, colour_distance, fixed_pattern, flat_distance, pattern_distance
from uigc.training.objective import LARGER_AFTER, Objective, cut, larger, plan, window
from uigc.training.optimizers import Muon, Optimizers, Rates, adamw, as_matrix, mixed
from uigc.training.photos import PURE_COLOURS, crops, flat
from uigc.training.timing import Timer

CPU = torch.device("cpu")


def images(seed: int, size: int = 128, count: int = 4) -> Tensor:
    small = torch.rand(count, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(small, scale_factor=4.0, mode="bicubic").clamp(0, 1)


def woven(period: int, size: int = 128) -> Tensor:
    wave = torch.cos(2 * torch.pi * torch.arange(size) / period)
    return 0.02 * wave[:, None] * wave[None, :].expand(3, size, size)


@pytest.mark.parametrize("period", [2, 4, 8, 16])
def test_a_pattern_in_every_token_is_seen_and_noise_is_not(period: int) -> None:
    reference = images(0)
    pattern = pattern_distance(reference + woven(period), reference)
    assert torch.allclose(pattern, woven(period).square().mean().sqrt(), rtol=0.1)
    noise = 0.02 * torch.randn(reference.shape, generator=torch.Generator().manual_seed(1))
    assert pattern_distance(reference + noise, reference) < 0.2 * pattern
    brighter = pattern_distance(reference + 0.1, reference)  # is colour, and no pattern
    assert brighter < 0.01 * pattern
    assert fixed_pattern(reference).shape == (3, 16, 16)


def test_patterns_get_a_gradient_that_flattens_them() -> None:
    reference = images(0)
    made = (reference + woven(4)).requires_grad_()
    (gradient,) = torch.autograd.grad(pattern_distance(made, reference), made)
    inner = (slice(None), slice(None), slice(32, 96), slice(32, 96))
    agreement = nn.functional.cosine_similarity(
        gradient[inner].flatten(), woven(4).expand_as(reference)[inner].flatten(), dim=0
    )
    assert agreement > 0.95


def test_a_faint_pattern_is_told_from_noise_by_many_batches() -> None:
    """Where the pattern of one batch is mostly chance, the gradient still flattens what all batches have."""
    weave, patterns, generator = woven(4) / 40, Patterns(CPU), torch.Generator().manual_seed(2)
    inner = (slice(None), slice(None), slice(32, 96), slice(32, 96))

    def agreement(gradient: Tensor) -> float:
        wanted = weave.expand_as(gradient)[inner].flatten()
        return float(nn.functional.cosine_similarity(gradient[inner].flatten(), wanted, dim=0))

    for step in range(60):
        reference = images(step)
        noise = 0.05 * torch.randn(reference.shape, generator=generator)
        made = (reference + weave + noise).requires_grad_()
        (gradient,) = torch.autograd.grad(patterns.distance(made, reference), made)
    (alone,) = torch.autograd.grad(pattern_distance(made, reference), made)
    assert agreement(gradient) > 1.5 * agreement(alone) > 0


def test_dark_and_bright_tokens_have_patterns_of_their_own() -> None:
    """Patterns that cancel out in the mean of all tokens are seen; the means are kept with a run."""
    reference = torch.cat([torch.full((2, 3, 64, 64), 0.2), torch.full((2, 3, 64, 64), 0.8)])
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0]).view(4, 1, 1, 1)
    patterns = Patterns(CPU)
    for _ in range(3):
        term = patterns.distance(reference + signs * woven(4, 64), reference)
    assert term == pytest.approx(float(woven(4, 64).square().mean().sqrt()), rel=0.1)
    assert pattern_distance(reference + signs * woven(4, 64), reference) < 1e-4
    patterns.distance(torch.full((1, 3, 64, 64), float("nan")), torch.full((1, 3, 64, 64), 0.2))
    assert torch.isfinite(patterns.means).all()
    resumed = Patterns(CPU)
    resumed.load_state_dict(patterns.state_dict())
    dark = reference[:2]
    for changed, some in (patterns, resumed), (resumed, patterns):
        assert torch.equal(changed.means, some.means)
    assert patterns.distance(dark + 0.01, dark) == resumed.distance(dark + 0.01, dark)


def test_colour_is_that_of_large_fields() -> None:
    reference = images(0)
    assert torch.allclose(colour_distance(reference + 0.1, reference), torch.tensor(0.1))
    fine = torch.ones(128).view(64, 2) * torch.tensor([1.0, -1.0])
    assert colour_distance(reference + fine.flatten(), reference) < 1e-6


def test_every_weight_is_that_of_a_term() -> None:
    names = [field.name for field in fields(LossWeights)]
    terms = {name: torch.tensor(1.0) for name in names}
    weights = LossWeights()
    expected = 1 + sum(getattr(weights, name) for name in names)
    assert torch.allclose(weights.total({"l1": torch.tensor(1.0), **terms}), torch.tensor(float(expected)))


def test_windows_lie_anywhere_in_both_crops() -> None:
    assert [window(size) for size in (48, 64, 128, 192)] == [32, 32, 96, 128]
    assert [larger(size) for size in (48, 64, 128)] == [64, 96, 192]
    image, rng, places = torch.arange(64.0 * 64).view(1, 1, 64, 64).expand(1, 3, 64, 64), random.Random(0), set()
    for _ in range(400):
        one, other = cut(image, image + 1, rng)
        assert torch.equal(one + 1, other)
        assert one.shape[-2:] == (32, 32)
        top, left = divmod(int(one[0, 0, 0, 0]), 64)
        places.add((top % 4, left % 4))
    assert len(places) == 16  # every phase of AlexNet's stride


def test_a_run_ends_with_fewer_but_larger_crops() -> None:
    assert plan(0.0, 128, 16) == (128, 14, 2)
    assert plan(LARGER_AFTER, 128, 16) == (192, 7, 1)
    assert plan(0.0, 48, 1) == (48, 1, 0)


def test_crops_are_scaled_and_some_are_of_one_colour() -> None:
    photograph = torch.arange(300).view(1, 1, 300).expand(3, 260, 300).to(torch.uint8)
    made = crops([photograph], 40, 128, random.Random(0))
    slopes = (made[:, 0, 0, 60] - made[:, 0, 0, 59]).abs() * 255
    assert made.shape == (40, 3, 128, 128)
    assert int((slopes - 1 < 0.01).sum()) in range(10, 31)
    assert float(slopes.max()) <= 2.1
    colours = flat(400, 32, random.Random(1), CPU)
    assert torch.equal(colours, colours[:, :, :1, :1].expand_as(colours))
    corner = colours[:, :, 0, 0]
    seen = Counter(tuple(colour.tolist()) for colour in corner)
    assert len(seen) > 150
    assert all(seen[colour] > 10 for colour in PURE_COLOURS)
    grey = (corner.amax(1) - corner.amin(1)) == 0
    assert int(grey.sum()) in range(100, 180)


def test_muon_trains_convolutions_in_place_as_matrices() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 48, 3), nn.Conv2d(48, 32, 1), nn.Conv2d(32, 12, 1))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizers = mixed(Rates(muon=0.1, adamw=0.01), (network, 0.5))
    muon, rest = optimizers.members["muon0"], optimizers.members["adamw"]
    assert isinstance(muon, Muon)
    assert muon.weights == [network[1].weight, network[2].weight]
    assert sum(len(group["params"]) for group in rest.param_groups) == 6
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    for weight in network.parameters():
        weight.grad = torch.randn_like(weight)
    optimizers.step(0.5)
    assert all(weight.grad is None for weight in network.parameters())
    for index, (wide, tall) in {1: (48, 288), 2: (32, 48)}.items():
        change = as_matrix(network[index].weight.detach() - before[f"{index}.weight"])
        assert change.shape == (wide, tall)
        values = torch.linalg.svdvals(change) / 0.025  # pace 0.5, share 0.5, rate 0.1
        assert 0.5 < float(values.min()) <= float(values.max()) < 1.4  # an orthogonal matrix, about
    assert not torch.equal(network[0].weight, before["0.weight"])
    with pytest.raises(ValueError, match="channels_last"):
        Muon([nn.Parameter(torch.rand(32, 32, 3, 3))], 0.1)


def test_codewords_follow_no_latents_that_are_not_finite() -> None:
    torch.manual_seed(0)
    quantizer = Tokenizer(TINY_TOKENIZER).quantizer
    latents = torch.randn(2, TINY_TOKENIZER.dim, 3, 3)
    quantizer.fit(nn.functional.normalize(latents.permute(0, 2, 3, 1).reshape(-1, TINY_TOKENIZER.dim), dim=1))
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    broken = latents.clone()
    broken[0, 0, 0, 0] = float("nan")
    quantizer(broken)
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    quantizer(latents)
    assert not torch.equal(quantizer.sums, before["sums"])


def test_the_time_of_each_part_is_told() -> None:
    timer = Timer(CPU)
    timer.count(3)
    with timer("one"):
        sum(range(100000))
    with timer("other"):
        pass
    assert timer.rate > 0
    shares = timer.take()
    assert set(shares) == {"one", "other"}
    assert 0 <= shares["other"] <= shares["one"] <= 1
    assert timer.take() == {}


def test_the_objective_looks_at_everything(tmp_path: Path) -> None:
    networks = Networks(outside("perceptual") / "nets.safetensors")
    options = RunOptions(tmp_path, tmp_path, 10, None, 4, 0, CPU)
    objective = Objective(networks, options, LossWeights(), adversarial_after=0.5)
    module = nn.Linear(2, 1)
    run = Run("tried", options, module, Optimizers(adamw=adamw(module.parameters(), 0.1)), {})
    photographs = torch.cat([images(1, 64, 3), flat(1, 64, random.Random(0), CPU)])
    made = (photographs + woven(4, 64)).clamp(0, 1)
    gradient = objective.gradient(run, made, photographs, 1)
    assert gradient.shape == made.shape
    assert bool((gradient.flatten(1).abs().sum(1) > 0).all())
    assert not {"adversary_features", "adversaries"} & set(run.figures)
    run.step = 150
    objective.gradient(run, made, photographs, 1)
    assert {"adversary_features", "adversary_pixels", "adversaries", "dists"} <= set(run.figures)
    assert not any(parameter.requires_grad for parameter in networks.parameters())
    blind = Objective(None, options, LossWeights(), adversarial_after=0.0)
    run.figures.clear()
    blind.gradient(run, made, photographs, 1)
    assert set(run.figures) == {"l1", "colour", "pattern", "flat"}
    assert run.figures["flat"] == pytest.approx(float(flat_distance(made[3:], photographs[3:])))
    run.figures.clear()
    blind.gradient(run, made[:3], photographs[:3], 0)
    assert "flat" not in run.figures
