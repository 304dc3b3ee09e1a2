"""The commands of docs/TRAINING.md are understood as they stand, and those of its beginning run, for a step or two."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.support.paths import ROOT, outside
from uigc.export.modules.checkpoint import load_prior, load_tokenizer
from uigc.runtime.io.samples import SAMPLE
from uigc.training.__main__ import _parser, main

CALLED = re.compile(r"^(?: {4})?python -m uigc\.training (.*)$", re.MULTILINE)


def commands() -> list[list[str]]:
    return [shlex.split(line) for line in CALLED.findall((ROOT / "docs" / "TRAINING.md").read_text(encoding="utf-8"))]


def test_every_command_is_understood() -> None:
    recipes = [_parser().parse_args(command).recipe for command in commands()]
    assert {*recipes} == {"tokenizer", "prior", "decoder", "flat", "encoder"}
    assert len(recipes) >= 7


def test_the_first_ones_make_a_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of each in place of minutes, of tiny modules, not compiled."""
    (tmp_path / "IMAGES").mkdir()
    shutil.copy(SAMPLE, tmp_path / "IMAGES")
    (tmp_path / "nets.safetensors").symlink_to(outside("perceptual") / "nets.safetensors")
    monkeypatch.chdir(tmp_path)
    for command in commands()[:3]:
        at = command.index("--minutes")
        arguments = [*command[:at], "--steps", "2", *command[at + 2 :], "--batch", "2"]
        if "--compile" in arguments:
            arguments.remove("--compile")
            arguments += ["--crop", "48"]
        main(arguments if command[0] == "decoder" else [*arguments, "--tiny"])
    assert load_tokenizer(Path("RUN")).quantizer.ready
    assert load_prior(Path("RUN")).prior.config.codebook == 32
