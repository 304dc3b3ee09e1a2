"""The recipes run, resume and repeat, in seconds, on images made by code."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.support.paths import outside
from tests.support.recipes import smooth_images, train
from uigc.export import modules
from uigc.export.modules.checkpoint import (
    CODEBOOK,
    frozen_prior,
    load_prior,
    load_tokenizer,
    save_prior,
    save_tokenizer,
)
from uigc.export.modules.interface import VQTokenizer
from uigc.export.modules.prior import Prior, PriorConfig
from uigc.export.modules.tokenizer import Tokenizer, TokenizerConfig
from uigc.runtime.bundle import Bundle
from uigc.runtime.errors import InputError
from uigc.runtime.format.schedule import quincunx
from uigc.runtime.io.image_sources import is_held_out
from uigc.training.adversary import ADVERSARIES
from uigc.training.held_out import coded
from uigc.training.masks import draw_lost
from uigc.training.photos import Photos, centre
from uigc.training.prior import augmented, evaluate, prior_for
from uigc.training.prior_gradients import stage_loss


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smooth_images(tmp_path_factory.mktemp("photos"))


def log(out: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def learned(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run of a tokenizer that has learned, and what the recipe printed."""
    out = tmp_path_factory.mktemp("learned")
    return out, train("tokenizer", photos, out, 60, "--crop", "64", "--batch", "8")


@pytest.fixture
def run(learned: tuple[Path, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(learned[0], tmp_path / "run"))


def test_the_tokenizer_learns(learned: tuple[Path, str]) -> None:
    out, text = learned
    assert "crops/s" in text
    assert "l1=" in text
    lines = log(out, "tokenizer")
    assert lines[-1]["l1"] < lines[0]["l1"]
    assert lines[-1]["words_used"] > 1
    with Image.open(out / "tokenizer.png") as sample:
        assert sample.size == (128, 64)
    assert bool(load_tokenizer(out).quantizer.fitted)


def test_the_decoder_learns_and_leaves_the_tokens_alone(photos: Path, run: Path) -> None:
    before = load_tokenizer(run)
    train("decoder", photos, run, 20, "--crop", "64", "--batch", "8")
    after = load_tokenizer(run).state_dict()
    for name, value in before.state_dict().items():
        if not name.startswith("decoder."):
            assert torch.equal(value, after[name]), name
    assert not torch.equal(before.state_dict()["decoder.layers.0.weight"], after["decoder.layers.0.weight"])


def test_the_prior_learns_and_teaches_the_decoder(photos: Path, run: Path) -> None:
    text = train("prior", photos, run, 40, "--batch", "4")
    assert "windows/s" in text
    lines = log(run, "prior")
    assert lines[-1]["held_out_bits_per_token"] < lines[0]["held_out_bits_per_token"]
    assert lines[-1]["bits_per_token"] > 0
    assert {"order0", "stage0", "stage5"} <= set(lines[-1])
    trained = load_prior(run)
    assert len(trained.prior.schedule) == 6
    assert trained.mask_table.shape == (1024,)

    before = load_tokenizer(run).state_dict()
    text = train("decoder", photos, run, 2, "--crop", "64", "--batch", "4", "--regenerated", "0.5")
    assert "regenerating" in text
    assert not torch.equal(
        before["decoder.layers.0.weight"], load_tokenizer(run).state_dict()["decoder.layers.0.weight"]
    )


def test_the_encoder_learns_cheaper_tokens_and_leaves_the_rest_alone(photos: Path, run: Path) -> None:
    train("prior", photos, run, 40, "--batch", "4")
    before = load_tokenizer(run)
    train("encoder", photos, run, 60, "--crop", "64", "--batch", "8", "--rate", "10")
    lines = log(run, "encoder")
    assert lines[-1]["bits"] > 0
    assert lines[-1]["held_out_bits_per_token"] < 0.9 * prior_bits(before, run, photos)
    after = load_tokenizer(run).state_dict()
    for name, value in before.state_dict().items():
        if not name.startswith("encoder."):
            assert torch.equal(value, after[name]), name
    assert not torch.equal(before.state_dict()["encoder.layers.1.weight"], after["encoder.layers.1.weight"])
    assert load_prior(run).freeze_for(load_tokenizer(run)) is not None  # so they can be exported together


def test_a_prior_of_another_codebook_is_refused(photos: Path, run: Path, tmp_path: Path) -> None:
    train("prior", photos, run, 1, "--batch", "4")
    other = load_tokenizer(run)
    save_tokenizer(run, other.state_dict() | {CODEBOOK: other.quantizer.words.flip(0)}, other.config)
    for recipe, *options in (["encoder"], ["decoder", "--regenerated", "0.5"]):
        with pytest.raises(SystemExit) as ended:
            train(recipe, photos, run, 1, "--crop", "64", "--batch", "4", *options)
        assert "another codebook" in str(ended.value.__context__)


def prior_bits(tokenizer: VQTokenizer, run: Path, photos: Path) -> float:
    """Bits a token of the held-out crops under the prior of the run."""
    pictures = torch.cat([centre(image, 64) for image in Photos(photos, torch.device("cpu"), 96).held_out])
    return evaluate(load_prior(run).prior, list(coded(tokenizer, pictures)[1]))["held_out_bits_per_token"]


def test_the_twin_is_one_of_float_blocks(photos: Path, run: Path) -> None:
    train("prior", photos, run, 2, "--twin", "--batch", "4")
    assert isinstance(load_prior(run, twin=True).prior.norm, torch.nn.LayerNorm)


def test_recipes_go_on_from_a_bundle(photos: Path, tiny_path: Path, tmp_path: Path) -> None:
    start = ("--start", str(tiny_path), "--batch", "4", "--photo-limit", "20")
    train("tokenizer", photos, tmp_path, 2, "--crop", "64", *start)
    assert load_tokenizer(tmp_path).config == load_tokenizer(tiny_path).config
    more = load_prior(tiny_path).prior.config.layers + 1
    text = train("prior", photos, tmp_path, 2, "--variants", "2", *start, "--layers", str(more))
    assert "40 token grids to train on" in text
    assert load_prior(tmp_path).prior.config == replace(load_prior(tiny_path).prior.config, layers=more)


def test_a_codebook_of_another_size_is_fitted_and_its_prior_begins_as_the_nearest_words(
    photos: Path, tiny_path: Path, tmp_path: Path
) -> None:
    start = ("--start", str(tiny_path), "--batch", "4", "--photo-limit", "20")
    train("tokenizer", photos, tmp_path, 2, "--crop", "64", *start, "--codebook", "64")
    tokenizer, before = load_tokenizer(tmp_path), load_tokenizer(tiny_path)
    assert tokenizer.config == replace(before.config, codebook=64)
    assert tokenizer.quantizer.ready
    theirs = load_prior(tiny_path).prior
    ours = prior_for(tokenizer, tiny_path)
    nearest = torch.cdist(tokenizer.quantizer.words, before.quantizer.words).argmin(1)
    assert torch.equal(ours.head.weight, theirs.head.weight[nearest])
    assert torch.equal(ours.bias.weight, theirs.bias.weight[nearest])
    assert torch.equal(ours.tokens.weight, theirs.tokens.weight[[*nearest, -2, -1]])
    assert torch.equal(ours.places.weight, theirs.places.weight)
    same = prior_for(before, tiny_path).state_dict()
    assert all(torch.equal(value, same[name]) for name, value in theirs.state_dict().items())
    train("prior", photos, tmp_path, 2, *start)
    assert load_prior(tmp_path).prior.config.codebook == 64


def test_a_prior_of_other_arithmetic_is_a_start_and_nothing_else(
    photos: Path, tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    trained, tokenizer = load_prior(tiny_path), load_tokenizer(tiny_path)
    old.mkdir()
    save_tokenizer(old, tokenizer.state_dict(), tokenizer.config)
    with monkeypatch.context() as earlier:
        earlier.setattr(modules.prior, "ARITHMETIC", modules.prior.ARITHMETIC - 1)
        save_prior(old, trained.prior.state_dict(), trained.prior, trained.mask_table)
    with pytest.raises(InputError, match="other arithmetic"):
        load_prior(old)
    new.mkdir()
    save_tokenizer(new, tokenizer.state_dict(), tokenizer.config)
    train("prior", photos, new, 1, "--start", str(old), "--batch", "4", "--photo-limit", "20")
    assert load_prior(new).prior.config == trained.prior.config


def test_a_prior_of_other_dimensions_is_no_start(tiny_path: Path) -> None:
    with pytest.raises(InputError, match="have 4 dimensions and those of this run have 5"):
        prior_for(Tokenizer(TokenizerConfig(16, 5, (16, 16, 32), (1, 1, 1), (16, 16, 32), (1, 1, 1))), tiny_path)


def test_what_was_frozen_can_go_on_and_freezes_to_the_same(tiny_path: Path) -> None:
    frozen = frozen_prior(Bundle.load(tiny_path)).state_dict()
    thawed = load_prior(tiny_path).prior
    tokens = torch.randint(16, (1, 16, 16))
    loss, _ = stage_loss(thawed, tokens, torch.zeros_like(tokens, dtype=torch.bool), 3)
    loss.backward()
    assert thawed.head.weight.grad.abs().sum() > 0
    for name, value in thawed.freeze().state_dict().items():
        assert torch.equal(value, frozen[name]), name


def test_the_adversaries_take_part_and_a_run_goes_on_from_another(photos: Path, tmp_path: Path) -> None:
    networks = str(outside("perceptual") / "nets.safetensors")
    options = ("--crop", "48", "--batch", "4", "--photo-limit", "20", "--networks", networks)
    first, second = tmp_path / "first", tmp_path / "second"
    train("tokenizer", photos, first, 6, *options)
    assert log(first, "tokenizer")[-1]["adversaries"] > 0
    assert "adversaries go on" in train("tokenizer", photos, second, 4, *options, "--start", str(first))
    line = log(second, "tokenizer")[0]
    assert line["commitment"] > 0  # quantized from the first step
    learned = load_file(second / ADVERSARIES)
    train("decoder", photos, second, 4, *options, "--stop-after", "2")
    train("decoder", photos, second, 4, *options)
    names = {"l1", "colour", "pattern", "lpips_vgg", "lpips_alex", "dists", "adversary_features", "adversary_pixels"}
    assert names | {"adversaries"} <= set(log(second, "decoder")[-1])
    after = load_file(second / ADVERSARIES)
    assert set(after) == set(learned)
    assert any(not torch.equal(value, learned[name]) for name, value in after.items())


def test_an_interrupted_run_ends_like_an_uninterrupted_one(photos: Path, tmp_path: Path) -> None:
    """Resuming restores weights, averages, optimizer and random numbers: the same bits."""
    options = ("--crop", "48", "--batch", "4", "--photo-limit", "20")
    train("tokenizer", photos, tmp_path / "whole", 6, *options)
    train("tokenizer", photos, tmp_path / "parts", 6, *options, "--stop-after", "4")
    assert not (tmp_path / "parts" / "tokenizer.safetensors").exists()
    assert "resuming at step 4" in train("tokenizer", photos, tmp_path / "parts", 6, *options)
    whole, parts = (load_tokenizer(tmp_path / name).state_dict() for name in ("whole", "parts"))
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_a_finished_run_is_left_alone_and_another_is_not_resumed(photos: Path, tmp_path: Path) -> None:
    options = ("--crop", "48", "--batch", "4", "--photo-limit", "20")
    train("tokenizer", photos, tmp_path, 4, *options)
    written = (tmp_path / "tokenizer.safetensors").stat().st_mtime_ns
    train("tokenizer", photos, tmp_path, 4, *options)
    assert (tmp_path / "tokenizer.safetensors").stat().st_mtime_ns == written
    command = [sys.executable, "-m", "uigc.training", "tokenizer", "--images", str(photos), "--output", str(tmp_path)]
    other = [*command, "--tiny", "--steps", "9", "--seed", "5", *options]
    done = subprocess.run(other, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "belongs to another run" in done.stderr


def test_no_photographs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No image"):
        Photos(tmp_path, torch.device("cpu"), 64)


def test_the_split_depends_on_names_only(photos: Path) -> None:
    split = Photos(photos, torch.device("cpu"), 64)
    names = [f"{index:03}.png" for index in range(60)]
    assert len(split.held_out) == max(1, sum(map(is_held_out, names)))
    assert 0.01 < np.mean([is_held_out(str(index)) for index in range(20000)]) < 0.03


def test_losses_follow_the_mask_modes_or_none() -> None:
    schedule = quincunx()
    torch.manual_seed(0)
    lost = torch.cat([draw_lost(schedule, torch.zeros(16, 16, 16)) for _ in range(40)])
    stages = torch.from_numpy(schedule.stage_of(16, 16))
    share = lost.flatten(1).float().mean(1)
    assert 0.4 < float((share == 0).float().mean()) < 0.6
    scattered = lost[:, stages < 3].any(1)  # which no mask mode loses
    assert 0.15 < float(scattered.float().mean()) < 0.35
    assert float(share[scattered].max()) < 0.85
    masked = lost[~scattered & (share > 0.05)]
    assert masked[:, stages == 3].any()
    whole = masked.view(-1, 8, 2, 8, 2).permute(0, 1, 3, 2, 4).flatten(3)  # by blocks of 2x2
    black = (stages.view(8, 2, 8, 2).permute(0, 2, 1, 3).flatten(2) > 3)[None].expand_as(whole)
    assert bool((whole[black].view(-1, 2).sum(1) != 1).all())  # both black tokens of a block are lost, or none


def test_augmented_photographs_keep_a_window() -> None:
    image, rng = torch.rand(1, 3, 300, 400), random.Random(1)
    shapes = set()
    for _ in range(8):
        made = augmented(image, rng)
        assert min(made.shape[2:]) >= 256
        assert 0 <= float(made.min()) <= float(made.max()) <= 1
        shapes.add(tuple(made.shape))
    assert len(shapes) > 4


def test_padding_is_never_asked_for() -> None:
    prior = Prior(PriorConfig(16, 16, 1, 1, 2, 8), quincunx())
    tokens = torch.randint(0, 16, (1, 8, 8))
    tokens[:, 5:] = prior.config.pad
    nothing = torch.zeros_like(tokens, dtype=torch.bool)
    counts = [stage_loss(prior, tokens, nothing, stage)[1] for stage in range(6)]
    assert sum(counts) == 5 * 8
