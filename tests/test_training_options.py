"""Options of the recipes: what contradicts itself is refused in a sentence, and other settings are not resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.recipes import smooth_images
from uigc.export.modules.prior import PriorConfig
from uigc.runtime.errors import ExitCode, InputError, UsageError
from uigc.runtime.io.image_sources import Source
from uigc.training import devices
from uigc.training.__main__ import _parser, _prior_config, main
from uigc.training.loop import Run, RunOptions
from uigc.training.optimizers import Optimizers, adamw
from uigc.training.photos import Photos

PRIOR = ("prior", "--images", "IMAGES", "--output", "RUN", "--steps", "1")


def config(*options: str) -> PriorConfig:
    return _prior_config(_parser().parse_args([*PRIOR, *options]))


def test_sizes_of_a_new_prior() -> None:
    assert config() == PriorConfig()
    assert config("--width", "512", "--layers", "6") == PriorConfig(width=512, heads=8, layers=6)
    assert config("--start", "BUNDLE", "--layers", "6") == PriorConfig()  # whose size is the other's but for the layers
    assert config("--width", "32", "--expansion", "3") == PriorConfig(width=32, heads=1, expansion=3)
    assert config("--start", "BUNDLE") == PriorConfig()
    assert config("--tiny").width == 32


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--width", "2048"), "a width of 2048 with an expansion of 2 makes layers of 4096 inputs"),
        (("--width", "512", "--expansion", "4"), "smaller --width or --expansion"),
        (("--width", "512", "--start", "BUNDLE"), "--width and --start contradict"),
        (("--width", "64", "--expansion", "1", "--start", "BUNDLE"), "--width and --expansion and --start contradict"),
        (("--layers", "2", "--tiny"), "--layers and --tiny contradict"),
    ],
)
def test_sizes_that_are_refused(options: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=f"(?i){text}"):
        config(*options)
    with pytest.raises(SystemExit) as ended:
        main([*PRIOR, *options])
    assert ended.value.code == ExitCode.USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_no_layers_are_refused() -> None:
    with pytest.raises(SystemExit):
        config("--layers", "0")


def run_of(folder: Path, weights: nn.Module, subject: dict[str, object] | None = None, **changes: object) -> Run:
    settings: dict[str, object] = {"steps": 3, "minutes": None, "batch": 4, "seed": 0, **changes}
    options = RunOptions(folder, folder, device=torch.device("cpu"), **settings)  # type: ignore[arg-type]
    return Run("tried", options, weights, Optimizers(adamw=adamw(weights.parameters(), 0.1)), subject or {})


def one_step(run: Run) -> None:
    torch.stack([weight.sum() for weight in run.module.parameters()]).sum().backward()  # type: ignore[no-untyped-call]
    run.descend(4)


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"batch": 5}, {"photo_limit": 9}, {"steps": 4}, {"steps": None, "minutes": 60.0}],
)
@pytest.mark.parametrize("finished", [False, True])
def test_other_settings_are_not_resumed(tmp_path: Path, changes: dict[str, object], finished: bool) -> None:
    """Not by a run that has ended either: more minutes for it would be a rate that rises again."""
    run = run_of(tmp_path, nn.Linear(2, 1), stop_after=None if finished else 2)
    for _ in run.steps("crops"):
        one_step(run)
    assert run.completed == finished
    if finished:
        run.conclude()
        assert not run.completed
    kept = run.checkpoint.read_bytes()
    with pytest.raises(InputError, match=f"{next(iter(changes))} .* there and .* here") as refused:
        run_of(tmp_path, nn.Linear(2, 1), **changes)
    assert str(refused.value).count("there and") == len(changes)
    with pytest.raises(InputError, match="crop None there and 96 here"):
        run_of(tmp_path, nn.Linear(2, 1), {"crop": 96})
    assert run.checkpoint.read_bytes() == kept
    assert run_of(tmp_path, nn.Linear(2, 1)).concluded == finished


@pytest.mark.parametrize(
    "option",
    ["--minutes=0", "--minutes=-1", "--minutes=inf", "--minutes=nan", "--steps=0", "--steps=-5", "--batch=0"],
)
def test_numbers_of_nothing_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    budget = [] if option.startswith(("--steps", "--minutes")) else ["--steps", "1"]
    with pytest.raises(SystemExit) as ended:
        main(["decoder", "--images", "IMAGES", "--output", "RUN", *budget, option])
    assert ended.value.code == ExitCode.USAGE
    assert option.partition("=")[0] in capsys.readouterr().err


def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("gpu", "meta:x", "cuda:99"):
        with pytest.raises(UsageError, match=f"no device '{name}'"):
            devices.device(name)
    with pytest.raises(SystemExit) as ended:
        main(["decoder", "--images", "IMAGES", "--output", "RUN", "--steps", "1", "--device", "gpu"])
    assert ended.value.code == ExitCode.USAGE
    assert devices.device("cpu").type == "cpu"


def test_a_tiny_configuration_is_of_new_networks(capsys: pytest.CaptureFixture[str]) -> None:
    for recipe in ("tokenizer", "prior"):
        with pytest.raises(SystemExit) as ended:
            main([recipe, "--images", "IMAGES", "--output", "RUN", "--steps", "1", "--tiny", "--start", "OTHER"])
        assert ended.value.code == ExitCode.USAGE
        assert "--tiny and --start contradict each other" in capsys.readouterr().err


def test_no_more_files_are_read_than_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, whole = [], Source.read

    def note(self: Source) -> bytes:
        read.append(self.name)
        return whole(self)

    monkeypatch.setattr(Source, "read", note)
    photos = Photos(smooth_images(tmp_path), torch.device("cpu"), 64, 5)
    assert len(read) == len(photos.training) == 5  # none of these is held out by its name


def test_a_next_stretch_sees_other_crops_and_a_repeated_one_the_same(tmp_path: Path) -> None:
    """The random numbers of Python and PyTorch depend on the seed and on the weights that a run begins from."""
    torch.manual_seed(0)
    weights = nn.Linear(2, 1)
    drawn = []
    for index, step in enumerate((False, False, True)):
        if step:
            with torch.no_grad():
                weights.weight += 1
        run = run_of(tmp_path / str(index), weights)
        drawn.append((*(run.rng.random() for _ in range(4)), *torch.rand(4).tolist()))
    assert drawn[0] == drawn[1]
    assert not {*drawn[0]} & {*drawn[2]}
    other = run_of(tmp_path / "seed", weights, seed=1)
    assert other.rng.random() not in drawn[2]
    assert np.unique(drawn[2]).size == 8
