"""VQGAN checkpoints: every way to save them, what is refused, and reduced codebooks."""

from __future__ import annotations

import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.support import taming_vqgan
from uigc.export.modules.checkpoint import load_tokenizer, token_fingerprint
from uigc.export.modules.taming import load_vqgan
from uigc.runtime.cli.main import main
from uigc.runtime.errors import ExitCode, InputError
from uigc.training.codebook_reduction import reduced, use

State = taming_vqgan.State


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    weights = taming_vqgan.weights(32, 8)
    weights["quantize.embedding.weight"].normal_()
    return weights


class Callback:
    """An object of a training framework that is not installed where the checkpoint is read."""

    def __init__(self) -> None:
        self.best, self.options = 1.0, {"every": 5}


class Running:
    """An object that copies a file if its reader runs code from the checkpoint."""

    def __init__(self, source: Path, target: Path) -> None:
        self.paths = str(source), str(target)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return shutil.copyfile, self.paths


def save_lightning(path: Path, contents: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Save as the framework does, with its own classes as keys and values, whose names cannot be imported later."""
    framework = ModuleType("some_lightning")
    framework.Callback = Callback  # type: ignore[attr-defined]
    monkeypatch.setattr(Callback, "__module__", "some_lightning")
    monkeypatch.setitem(sys.modules, "some_lightning", framework)
    torch.save({**contents, "callbacks": {Callback: {"best": Callback()}}, "scale": np.float64(2)}, path)
    monkeypatch.delitem(sys.modules, "some_lightning")


def test_every_way_to_save_a_checkpoint(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {
        "loss.discriminator.main.0.weight": torch.zeros(3),
        "loss.perceptual_loss.lin0.model.1.weight": torch.ones(2),
    }
    save_lightning(tmp_path / "last.ckpt", {"state_dict": {**state, **extra}, "global_step": 7}, monkeypatch)
    torch.save(state, tmp_path / "flat.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"model": state, "args": {"lr": 1e-4}}, tmp_path / "nested.pt")
    inside = {f"first_stage_model.{name}": value for name, value in state.items()}
    torch.save({"state_dict": {**inside, "transformer.pos_emb": torch.zeros(4)}}, tmp_path / "net2net.ckpt")
    save_file(state, tmp_path / "weights.safetensors")
    found = {path.name: token_fingerprint(load_vqgan(path)) for path in sorted(tmp_path.iterdir())}
    assert len(found) == 6
    assert len(set(found.values())) == 1
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "half.pth")
    half = load_vqgan(tmp_path / "half.pth")
    assert all(value.dtype == torch.float32 for value in half.state_dict().values())


def test_no_code_of_a_checkpoint_is_run(state: State, tmp_path: Path) -> None:
    target = tmp_path / "copied"
    torch.save({"state_dict": state, "hook": Running(Path(__file__), target)}, tmp_path / "evil.ckpt")
    load_vqgan(tmp_path / "evil.ckpt")
    assert not target.exists()
    with open(tmp_path / "evil.ckpt", "rb") as file:  # a reader that runs code does copy the file
        torch.load(file, weights_only=False)
    assert target.exists()


def written(path: Path, contents: object) -> Path:
    torch.save(contents, path)
    return path


def without(state: State, *names: str) -> State:
    return {name: value for name, value in state.items() if name not in names}


CASES: dict[str, tuple[Callable[[State], object], str]] = {
    "a module": (lambda s: torch.nn.Conv2d(3, 3, 1), "does not hold named weights but a whole"),
    "other weights": (lambda s: {"layers.0.weight": torch.ones(2)}, r"does not hold a VQGAN .* but layers\.0\.weight"),
    "nothing": (lambda s: {}, "but nothing"),
    "gumbel": (lambda s: {**s, "quantize.embed.weight": torch.ones(2, 2)}, "Gumbel"),
    "no tensor": (
        lambda s: {**s, "encoder.conv_in.bias": 3},
        r"does not hold a tensor as encoder\.conv_in\.bias",
    ),
    "no codebook": (lambda s: without(s, "quantize.embedding.weight"), r"lacks quantize\.embedding\.weight"),
    "f8": (
        lambda s: {name: value for name, value in s.items() if ".4." not in name},
        "its tokens cover 8 pixels a side, and 16 are needed",
    ),
    "narrow": (lambda s: taming_vqgan.weights(32, 8, width=16), "16 channels at full resolution"),
}


@pytest.mark.parametrize("case", CASES)
def test_other_files_are_refused(case: str, state: State, tmp_path: Path) -> None:
    make, text = CASES[case]
    with pytest.raises(InputError, match=text):
        load_vqgan(written(tmp_path / "x.ckpt", make(state)))


def test_one_error_names_everything_that_is_wrong(state: State, tmp_path: Path) -> None:
    bad = without(state, "decoder.conv_out.bias", "quant_conv.weight")
    bad |= {"encoder.mystery": torch.ones(1), "decoder.conv_in.weight": torch.ones(3, 3, 3, 3)}
    bad["encoder.norm_out.bias"] = torch.full_like(bad["encoder.norm_out.bias"], torch.nan)
    with pytest.raises(InputError) as raised:
        load_vqgan(written(tmp_path / "x.pth", bad))
    message = str(raised.value)
    for text in (
        "32 channels times 1, 1, 1, 1, 2, 1 blocks per level, attention at level 4, 32 codewords of dimension 8",
        "lacks decoder.conv_out.bias, quant_conv.weight;",
        "also holds encoder.mystery;",
        "has in another shape decoder.conv_in.weight (3, 3, 3, 3) instead of (64, 12, 3, 3);",
        "holds numbers that are not finite in encoder.norm_out.bias;",
    ):
        assert text in message
    fewer = {name: value for name, value in state.items() if not name.startswith("decoder.up.0")}
    with pytest.raises(InputError, match="and 8 more"):
        load_vqgan(written(tmp_path / "y.pth", fewer))


def test_unreadable_files(state: State, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        load_vqgan(tmp_path / "absent.ckpt")
    whole = written(tmp_path / "whole.ckpt", state).read_bytes()
    broken = {"cut.ckpt": whole[: len(whole) // 2], "text.pth": b"<html>", "empty.pth": b"", "x.safetensors": whole}
    broken["blocked.ckpt"] = pickle.dumps(Running(Path("a"), Path("b")), 2)
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=r"cannot be read|not a safetensors"):
            load_vqgan(tmp_path / name)


def test_importing(state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, odd = written(tmp_path / "a.ckpt", state), dict(state)
    odd["quantize.embedding.weight"] = torch.randn(48, 8)
    run = tmp_path / "run"
    refused = (
        ([written(tmp_path / "b.ckpt", odd)], ExitCode.INPUT, "has 48 codewords, and a power of two from 4 to 4096"),
        ([checkpoint, "--codebook", "24", "--images", tmp_path], ExitCode.USAGE, "--codebook is 24"),
        ([checkpoint, "--codebook", "16"], ExitCode.USAGE, "--codebook needs --images"),
        ([checkpoint, "--images", tmp_path], ExitCode.USAGE, "are used only with --codebook"),
        ([checkpoint, "--codebook", "64", "--images", tmp_path], ExitCode.USAGE, "the codebook has 32"),
        ([checkpoint, "--codebook", "16", "--images", tmp_path], ExitCode.INPUT, "No image"),
    )
    for arguments, code, text in refused:
        assert main(["import-vqgan", *map(str, arguments), "-o", str(run)]) == code
        assert text in capsys.readouterr().err
    assert not run.exists()
    assert main(["import-vqgan", str(checkpoint), "-o", str(run)]) == 0
    assert "32 codewords of dimension 8" in capsys.readouterr().err
    vqgan = load_tokenizer(run)
    assert vqgan.config.codebook == 32
    assert main(["import-vqgan", str(checkpoint), "-o", str(run)]) == ExitCode.OUTPUT
    assert "give --force" in capsys.readouterr().err


def test_reducing_a_codebook_is_reproducible(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for index in range(4):
        small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        small.resize((96, 112), Image.Resampling.BICUBIC).save(photos / f"{index}.png")
    with Image.open(photos / "1.png") as image:
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255
    checkpoint = written(tmp_path / "a.ckpt", taming_vqgan.checkpoint(32, pixels))
    codewords = []
    for name in ("one", "two"):
        arguments = ["--codebook", "4", "--images", str(photos), "--device", "cpu", "--quiet"]
        assert main(["import-vqgan", str(checkpoint), "-o", str(tmp_path / name), *arguments]) == 0
        codewords.append(load_tokenizer(tmp_path / name).quantizer.words)
    assert codewords[0].shape == (4, 8)
    assert torch.equal(*codewords)


def test_uses_of_codewords_are_counted() -> None:
    grids = [torch.tensor([[0, 2], [2, 5]]), torch.tensor([[5]])]
    assert use(grids, 7).tolist() == [1, 0, 2, 0, 0, 2, 0]


def test_reduced_codewords_are_means_weighted_by_use() -> None:
    """Two clusters: the codewords are their means, weighted by use, and unused codewords do not count."""
    codewords = torch.tensor([[0.0, 0], [1, 0], [10, 10], [10, 12], [500, 500]])
    centres, kept = reduced(codewords, np.array([3, 1, 1, 1, 0]), 2)
    assert sorted(map(tuple, centres.tolist())) == [(0.25, 0.0), (10.0, 11.0)]
    assert 0.98 < kept < 1
    with pytest.raises(InputError, match="Only 4 of 5 codewords occur"):
        reduced(codewords, np.array([3, 1, 1, 1, 0]), 8)


def test_reducing_to_nearly_all_codewords_keeps_the_means() -> None:
    torch.manual_seed(0)
    codewords = torch.randn(40, 6)
    codewords[7] = codewords[3]  # a copy, which makes a cluster empty
    counts = np.random.default_rng(0).integers(1, 9, 40)
    centres, kept = reduced(codewords, counts, 32)
    assert torch.isfinite(centres).all()
    assert kept > 0.9
    again, _ = reduced(codewords, counts, 32)
    assert torch.equal(centres, again)
    distances = torch.cdist(codewords, centres)
    nearest = distances.argmin(1)
    for cluster in range(32):
        members = (nearest == cluster).numpy()
        mean = np.average(codewords.double().numpy()[members], axis=0, weights=counts[members])
        assert np.allclose(centres[cluster].numpy(), mean, atol=1e-5)
