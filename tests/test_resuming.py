"""Interrupted runs with adversaries end as uninterrupted ones do, tell where their time went, and what they learned."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.support.feature_networks import made_up_networks
from tests.support.tiny import TINY_TOKENIZER
from uigc.bench.metrics import Networks
from uigc.export.modules.checkpoint import load_tokenizer, save_tokenizer
from uigc.export.modules.tokenizer import Tokenizer
from uigc.runtime.errors import InputError
from uigc.training import decoder
from uigc.training.adversary import ADVERSARIES, Adversaries
from uigc.training.held_out import coded, distances, flatness
from uigc.training.loop import Run, RunOptions

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, the networks of the losses, and a run with a tokenizer and adversaries."""
    folder = tmp_path_factory.mktemp("material")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    (folder / "run").mkdir()
    for index in range(6):
        small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        small.resize((96, 80), Image.Resampling.BICUBIC).save(folder / "images" / f"{index}.png")
    made_up_networks(folder)
    torch.manual_seed(0)
    tokenizer = Tokenizer(TINY_TOKENIZER)
    tokenizer.quantizer.fitted.fill_(True)
    save_tokenizer(folder / "run", tokenizer.state_dict(), tokenizer.config)
    Adversaries(CPU).save(folder / "run")
    return folder


def trained(material: Path, out: Path, **options: object) -> Path:
    """A run of the decoder recipe, of eight steps, begun from that of the material if ``out`` is not there yet."""
    if not out.exists():
        shutil.copytree(material / "run", out)
    settings: dict[str, object] = {"steps": 8, "minutes": None, "batch": 4, "seed": 0, **options}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with several, sums may be taken in another order
    try:
        made = RunOptions(material / "images", out, device=CPU, **settings)  # type: ignore[arg-type]
        decoder.train(made, 48, Networks(material / "nets.safetensors"))
    finally:
        torch.set_num_threads(threads)
    return out


def log(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "decoder.jsonl").read_text().splitlines()]


def test_resuming_with_adversaries_repeats_the_run(material: Path, tmp_path: Path) -> None:
    whole = trained(material, tmp_path / "whole")
    parts = trained(material, tmp_path / "parts", stop_after=3)
    parts = trained(material, parts, stop_after=3)
    parts = trained(material, parts)
    for name in ("tokenizer.safetensors", ADVERSARIES):
        one, other, before = (load_file(folder / name) for folder in (whole, parts, material / "run"))
        assert all(torch.equal(value, other[key]) for key, value in one.items()), name
        assert any(not torch.equal(value, before[key]) for key, value in one.items()), name
    written = (whole / "tokenizer.safetensors").stat().st_mtime_ns
    trained(material, whole)
    assert (whole / "tokenizer.safetensors").stat().st_mtime_ns == written
    with pytest.raises(InputError, match="steps 8 there and 9 here"):
        trained(material, whole, steps=9)


def test_results_that_were_not_written_are_made_by_the_next_call(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends a run after its last step, such as a full disk: its weights are those of an undisturbed one."""

    reported = decoder.report

    def full(run: Run, *rest: object) -> None:
        if run.progress >= 1:
            raise OSError("No space left on device")
        reported(run, *rest)  # type: ignore[arg-type]

    whole, disturbed = trained(material, tmp_path / "whole"), tmp_path / "disturbed"
    monkeypatch.setattr(decoder, "report", full)
    with pytest.raises(OSError, match="No space left"):
        trained(material, disturbed)
    monkeypatch.undo()
    before = load_file(material / "run" / "tokenizer.safetensors")
    kept = load_file(disturbed / "tokenizer.safetensors")
    assert all(torch.equal(value, before[key]) for key, value in kept.items())
    trained(material, disturbed)
    one, other = (load_file(folder / "tokenizer.safetensors") for folder in (whole, disturbed))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_the_time_of_every_step_is_reported(material: Path, tmp_path: Path) -> None:
    """After each saving, and once more at the end."""
    seldom = [line["time"] for line in log(trained(material, tmp_path / "seldom")) if "time" in line]
    assert len(seldom) == 1
    often = log(trained(material, tmp_path / "often", save_every=0.0))
    times = [line["time"] for line in often if "time" in line]
    assert len(times) >= 8
    parts = {"data", "encoder", "decoder", "losses", "adversaries", "optimizer", "save"}
    for time in (*seldom, times[0]):
        assert isinstance(time, dict)
        assert set(time) >= parts
        assert 0.6 < sum(time.values()) <= 1.01
    assert all(line["crops_per_second"] > 0 for line in often if "time" in line)  # type: ignore[operator]


def test_a_report_says_how_runs_differ(material: Path, tmp_path: Path) -> None:
    out = trained(material, tmp_path / "run")
    last = log(out)[-1]
    names = {"psnr", "held_out_lpips", "held_out_lpips_vgg", "held_out_dists", "held_out_pattern"}
    assert names | {"words_used", "flat_unevenness", "flat_difference"} <= set(last)
    assert all(isinstance(value, float | int) and math.isfinite(value) for value in last.values())
    tokenizer, pictures = load_tokenizer(out), torch.rand(20, 3, 48, 48)
    with torch.no_grad():
        back, tokens = coded(tokenizer, pictures)
        single, _ = coded(tokenizer, pictures[18:19])
        measured = flatness(tokenizer)
    assert torch.allclose(back[18:19], single, atol=1e-5)
    assert tokens.shape == (20, 3, 3)
    assert (measured["flat_unevenness"], measured["flat_difference"]) == (
        last["flat_unevenness"],
        last["flat_difference"],
    )
    woven = torch.cos(torch.arange(48) * torch.pi / 2).expand(3, 48, 48) / 255
    found = distances(pictures / 2 + woven, pictures / 2, None)
    assert set(found) == {"psnr", "held_out_pattern"}
    assert found["held_out_pattern"] == pytest.approx(0.5**0.5, rel=0.05)
