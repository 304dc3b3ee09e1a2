"""A run: its learning rate, gradients that are not finite, and checkpoints that it does not resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from uigc.runtime.errors import InputError, UigcError
from uigc.training.loop import MOST_PASSED_OVER, Run, RunOptions
from uigc.training.optimizers import Optimizers, Rates, adamw, mixed

CPU = torch.device("cpu")


def run_of(folder: Path, module: nn.Module, **options: int) -> Run:
    settings = RunOptions(folder, folder, 200, None, 4, 0, CPU, **options)
    return Run("tried", settings, module, Optimizers(adamw=adamw(module.parameters(), 0.1)), {})


def test_the_rate_falls_to_zero_and_what_is_not_finite_is_passed_over(tmp_path: Path) -> None:
    module = nn.Linear(2, 1)
    run = run_of(tmp_path, module)
    paces = []
    for step in run.steps("crops"):
        paces.append(run.pace)
        before = module.weight.detach().clone()
        (module.weight.sum() * (float("nan") if step == 7 else 1)).backward()
        run.descend(4)
        assert torch.equal(module.weight, before) == (step == 7)
        assert module.weight.grad is None
    assert max(paces) == pytest.approx(0.5, abs=0.02)  # after the warm-up of 100 of these 200 steps
    assert paces[-1] == pytest.approx(0.005)


def test_a_run_that_learns_nothing_ends(tmp_path: Path) -> None:
    """Gradients that are never finite; a few in a row, as early in training, are passed over (above)."""
    module = nn.Linear(2, 1)
    run = run_of(tmp_path, module)

    def step(number: int) -> None:
        (module.weight.sum() * (1 if number in (0, 50) else float("nan"))).backward()
        run.descend(4)

    for number in range(50 + MOST_PASSED_OVER):
        step(number)
    with pytest.raises(UigcError, match=f"in {MOST_PASSED_OVER} steps in a row"):
        step(50 + MOST_PASSED_OVER)


def test_a_short_run_that_learned_nothing_is_not_saved(tmp_path: Path) -> None:
    module = nn.Linear(2, 1)
    run = Run(
        "tried",
        RunOptions(tmp_path, tmp_path, 3, None, 4, 0, CPU),
        module,
        Optimizers(adamw=adamw(module.parameters(), 0.1)),
        {},
    )

    def whole() -> None:
        for _ in run.steps("crops"):
            (module.weight.sum() * float("nan")).backward()
            run.descend(4)

    with pytest.raises(UigcError, match=r"in 3 steps in a row.*started with\.$"):
        whole()
    assert not run.checkpoint.exists()


def test_figures_that_are_not_finite_do_not_stay(tmp_path: Path) -> None:
    run = run_of(tmp_path, nn.Linear(2, 1))
    for value in (float("nan"), 1.0, float("inf"), 1.0):
        run.note(loss=torch.tensor(value))
    assert run.figures == {"loss": 1.0}


def test_a_step_with_muon_is_passed_over_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(32, 32, 3), nn.Conv2d(32, 4, 1)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    options = RunOptions(tmp_path, tmp_path, 4, None, 4, 0, CPU)
    run = Run("tried", options, network, mixed(Rates(muon=0.1, adamw=0.01), (network, 1.0)), {})
    assert set(run.optimizers.members) == {"adamw", "muon0"}
    for step in run.steps("crops"):
        before = [value.detach().clone() for value in (*network.parameters(), *run.average.state.values())]
        for weight in network.parameters():
            weight.grad = torch.ones_like(weight)
        if step == 1:
            network[0].weight.grad[3, 4, 1, 1] = float("inf")
        run.descend(4)
        after = [*network.parameters(), *run.average.state.values()]
        assert all(torch.equal(*pair) == (step == 1) for pair in zip(after, before, strict=True))
        assert all(weight.grad is None for weight in network.parameters())


def test_what_an_earlier_recipe_left_is_not_resumed(tmp_path: Path) -> None:
    run = run_of(tmp_path, nn.Linear(2, 1))
    run.save()
    state = torch.load(run.checkpoint, weights_only=True)
    state["optimizer"] = state.pop("optimizers")
    torch.save(state, run.checkpoint)
    with pytest.raises(InputError, match="earlier recipe"):
        run_of(tmp_path, nn.Linear(2, 1))
