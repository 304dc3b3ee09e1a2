"""Completion in shells, asked for as argcomplete's shell functions do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from uigc.runtime.cli.main import build_parser


def completions(line: str, tmp_path: Path) -> set[str]:
    """What the program offers for a line with the cursor at its end, and nothing anywhere else."""
    answer = tmp_path / "answer"
    environment = {
        **os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
    }  # fmt: skip
    command = [sys.executable, "-m", "uigc.runtime.cli"]
    done = subprocess.run(command, env=environment, capture_output=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == (b"", b"")
    return {each.strip() for each in answer.read_text(encoding="utf-8").splitlines()} if answer.exists() else set()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("uigc de", {"decompress", "demo"}),
        ("uigc decompress a.uigc --quiet --fo", {"--force", "--format"}),
        ("uigc compress a.png --provider cu", {"cuda", "cuda-graphs"}),
        ("uigc compress photo.png --mask e", {"entire", "edge", "edge_more"}),
        ("uigc compress pho", {"photo.png"}),
    ],
)
def test_what_is_offered(tmp_path: Path, line: str, offered: set[str]) -> None:
    (tmp_path / "photo.png").touch()
    assert completions(line, tmp_path) == offered


def test_every_option_that_takes_a_format_or_provider_can_be_completed() -> None:
    """By the names of the options, whatever they are called within; and no completer is left without an option."""
    from uigc.runtime.cli.completion import _VALUES, _parsers

    actions = [action for parser in _parsers(build_parser()) for action in parser._actions]
    asking = [each for each in actions if {"--provider", "--format", "--mask", "--setting"} & {*each.option_strings}]
    assert len(asking) > 10
    assert [each.option_strings for each in asking if each.choices is None and each.dest not in _VALUES] == []
    assert set(_VALUES) <= {each.dest for each in asking}
