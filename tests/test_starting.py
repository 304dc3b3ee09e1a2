"""Decoders and encoders go on from another run or from a bundle, in a folder of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.recipes import smooth_images, train
from uigc.export.modules.checkpoint import digest, load_prior, load_tokenizer, save_tokenizer, token_fingerprint
from uigc.runtime.errors import ExitCode, OutputError
from uigc.training.__main__ import main
from uigc.training.adversary import ADVERSARIES, Adversaries
from uigc.training.start import begin

OPTIONS = ("--crop", "64", "--batch", "4", "--photo-limit", "20")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smooth_images(tmp_path_factory.mktemp("photos"))


def test_a_decoder_goes_on_from_a_bundle(photos: Path, tiny_path: Path, tmp_path: Path) -> None:
    """Interrupted and called again, it goes on; finished and called again, it stays as it is."""
    run, kept = tmp_path / "run", load_tokenizer(tiny_path)
    command = ("decoder", photos, run, 4, *OPTIONS, "--regenerated", "0.5", "--start", str(tiny_path))
    train(*command, "--stop-after", "1")
    assert digest(load_tokenizer(run)) == digest(kept)  # nothing is written back before the end
    assert "resuming at step 1" in train(*command)
    learned = load_tokenizer(run)
    assert token_fingerprint(learned) == token_fingerprint(kept)
    assert digest(learned.decoder) != digest(kept.decoder)
    ours, theirs = load_prior(run), load_prior(tiny_path)
    assert digest(ours.prior) == digest(theirs.prior)
    assert torch.equal(ours.mask_table, theirs.mask_table)
    ours.freeze_for(learned)  # or it could not be exported
    train(*command)
    assert digest(load_tokenizer(run)) == digest(learned)


def test_an_encoder_goes_on_from_a_run_and_takes_what_that_has(photos: Path, tiny_path: Path, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    begin("decoder", first, tiny_path)
    assert not (first / ADVERSARIES).exists()
    Adversaries(torch.device("cpu")).save(first)
    train("encoder", photos, second, 2, *OPTIONS, "--start", str(first))
    assert token_fingerprint(load_tokenizer(second)) != token_fingerprint(load_tokenizer(first))
    assert (second / ADVERSARIES).read_bytes() == (first / ADVERSARIES).read_bytes()
    learned = (second / "tokenizer.safetensors").read_bytes()
    train("encoder", photos, second, 2, *OPTIONS, "--start", str(first))  # what has ended is left alone
    assert (second / "tokenizer.safetensors").read_bytes() == learned
    (second / "prior.safetensors").unlink()
    begin("decoder", third, second)  # a prior is not needed by every decoder
    assert {path.name for path in third.iterdir()} == {"tokenizer.safetensors", ADVERSARIES}


def test_a_folder_with_another_tokenizer_is_no_place_to_begin(
    photos: Path, tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = load_tokenizer(tiny_path)
    save_tokenizer(tmp_path, {name: value + 1 for name, value in other.state_dict().items()}, other.config)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    command = ["decoder", "--images", str(photos), "--output", str(tmp_path), "--steps", "1", "--start", str(tiny_path)]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == ExitCode.OUTPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "has another tokenizer than" in line
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(OutputError, match="another --output"):
        begin("encoder", tmp_path, tiny_path)
