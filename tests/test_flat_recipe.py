"""The recipe ``flat``: single colours become flat, the tokens stay, and photographs come out as before."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from tests.support import taming_vqgan
from tests.support.recipes import smooth_images, train
from uigc.export.modules.checkpoint import digest, load_tokenizer, token_fingerprint
from uigc.export.modules.interface import VQTokenizer
from uigc.runtime.cli.main import main
from uigc.training import fields, flat, loop
from uigc.training.fields import Fields, Flatness
from uigc.training.flat import Teacher
from uigc.training.optimizers import Rates

OPTIONS = ("--crop", "64", "--batch", "4", "--photo-limit", "20")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smooth_images(tmp_path_factory.mktemp("photos"))


def test_a_decoder_becomes_flat_and_else_stays_as_it_is(
    photos: Path, tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fields, "INT8_CHANNELS", 8)  # or no convolution of the tiny decoder would be one of int8
    monkeypatch.setattr(flat, "RATES", Rates(0.02, 0.003))  # for a run of few steps
    monkeypatch.setattr(loop, "WARM_UP", 5)
    run, free, kept = tmp_path / "run", tmp_path / "free", load_tokenizer(tiny_path)
    options = (*OPTIONS, "--regenerated", "0.5", "--start", str(tiny_path))
    assert "regenerating" in train("flat", photos, run, 40, *options)
    learned = load_tokenizer(run)
    assert token_fingerprint(learned) == token_fingerprint(kept)
    assert digest(learned.decoder) != digest(kept.decoder)
    before, after = (uneven(tokenizer, Fields.of(kept, kept.decoder)) for tokenizer in (kept, learned))
    assert all(after[name] < 0.9 * before[name] for name in ("endless", "inner"))
    monkeypatch.setattr(Teacher, "distance", lambda self, images, codewords: 0 * images.sum())
    train("flat", photos, free, 40, *options)
    changes = [last(folder, "held_out_change") for folder in (run, free)]
    assert 0 < changes[0] < 0.7 * changes[1]


@torch.no_grad()
def uneven(tokenizer: VQTokenizer, fields: Fields) -> dict[str, float]:
    torch.manual_seed(0)
    return {name: float(term) for name, term in Flatness(tokenizer, fields).terms(random.Random(0)).items()}


def last(run: Path, figure: str) -> float:
    lines = [json.loads(line) for line in (run / "flat.jsonl").read_text().splitlines()]
    return float([line[figure] for line in lines if figure in line][-1])


def test_an_interrupted_run_ends_like_an_uninterrupted_one(photos: Path, tiny_path: Path, tmp_path: Path) -> None:
    """With the teacher that it began with, whatever has become of the decoder in the folder; what has ended is left
    alone."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = (*OPTIONS, "--start", str(tiny_path))
    train("flat", photos, whole, 6, *options)
    train("flat", photos, parts, 6, *options, "--stop-after", "3")
    assert digest(load_tokenizer(parts)) == digest(load_tokenizer(tiny_path))  # nothing is written back before the end
    train("decoder", photos, parts, 2, *OPTIONS)
    assert digest(load_tokenizer(parts)) != digest(load_tokenizer(tiny_path))
    assert "resuming at step 3" in train("flat", photos, parts, 6, *options)
    assert digest(load_tokenizer(parts)) == digest(load_tokenizer(whole))
    assert last(parts, "held_out_change") == last(whole, "held_out_change")
    written = (whole / "tokenizer.safetensors").stat().st_mtime_ns
    train("flat", photos, whole, 6, *options)
    assert (whole / "tokenizer.safetensors").stat().st_mtime_ns == written


def test_a_teacher_stays_what_it_was(tiny_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_path).requires_grad_(False)
    codewords = tokenizer.quantizer.look_up(torch.arange(16).view(1, 4, 4))
    teacher, image = Teacher(tokenizer.decoder, compiled=False), tokenizer.decoder(codewords)
    assert teacher.distance(image, codewords) < 1e-5
    assert teacher.change(image.clamp(0, 1), codewords) == 0
    assert teacher.change((image + 10 / 255).clamp(0, 1), codewords) == pytest.approx(10, rel=0.1)
    for weight in tokenizer.decoder.parameters():
        weight.mul_(1.1)
    assert teacher.distance(image, codewords) < 1e-5
    assert torch.allclose(teacher.distance(image + 0.1, codewords), torch.tensor(0.2))  # 0.1 by both
    assert teacher.change(tokenizer.decoder(codewords).clamp(0, 1), codewords) > 1


def test_a_decoder_that_sees_the_whole_image_is_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before photographs are read."""
    checkpoint, run = tmp_path / "vqgan.pth", tmp_path / "run"
    torch.save({"state_dict": taming_vqgan.weights(32, 8)}, checkpoint)
    assert main(["import-vqgan", str(checkpoint), "-o", str(run), "--quiet"]) == 0
    monkeypatch.setattr(flat, "prepare", lambda *arguments: pytest.fail("photographs were read"))
    with pytest.raises(SystemExit) as ended:
        train("flat", photos, run, 1, *OPTIONS)
    assert "whose pixels depend on the whole image" in str(ended.value.__context__)
