"""What is told of long work on standard error: progress with its end, log messages, and about which input they are."""

from __future__ import annotations

import io
import logging
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uigc.runtime.cli import progress_line
from uigc.runtime.cli.logs import LOG, about, on_standard_error
from uigc.runtime.cli.main import main
from uigc.runtime.cli.progress_line import ProgressLine, describe, duration
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ExitCode

PIXELS = np.random.default_rng(6).integers(0, 256, (20, 30, 3), dtype=np.uint8)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_how_long_it_will_take() -> None:
    assert describe("files", 0, 9, 50) == "files 0/9"
    assert describe("files", 3, 12, 0.5) == "files 3/12"
    assert describe("files", 3, 12, 60) == "files 3/12 (25 %), about 3 min 00 s left"
    assert describe("files", 12, 12, 60) == "files 12/12"
    assert [duration(seconds) for seconds in (0.4, 59.7, 200, 7500)] == [
        "0 s",
        "1 min 00 s",
        "3 min 20 s",
        "2 h 05 min",
    ]


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without carriage returns, however often the work reports."""
    now = 100.0
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with ProgressLine(quiet=False) as line:
        for done in range(1, 100):
            now += 1
            line("files", done, 100)
    lines = sys.stderr.getvalue().splitlines()
    assert [text.split(" ")[1] for text in lines] == ["30/100", "60/100", "90/100"]
    assert lines[1].endswith("(60 %), about 39 s left")
    with ProgressLine(quiet=True) as line:
        now += 1000
        line("files", 1, 2)
    assert len(sys.stderr.getvalue().splitlines()) == 3


def test_a_terminal_gets_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress_line, "PROGRESS_AFTER", 0.0)
    with on_standard_error(1, quiet=False), ProgressLine(quiet=False) as line:
        line._timer.join()
        line("files", 1, 2)
        LOG.info("between")
    assert sys.stderr.getvalue().endswith("\r\x1b[Kfiles 1/2\r\x1b[Kuigc: between\n\r\x1b[Kfiles 1/2\r\x1b[K")


def test_log_messages_name_their_input(capsys: pytest.CaptureFixture[str]) -> None:
    with on_standard_error(0, quiet=False), about("a\x1b.png"):
        LOG.warning("its profile is broken")
        LOG.info("unseen")
    with on_standard_error(0, quiet=True):
        LOG.warning("unseen")
    assert capsys.readouterr().err == "uigc: warning: a\\x1b.png: its profile is broken\n"
    assert LOG.handlers == []
    assert LOG.level == logging.NOTSET


@pytest.mark.parametrize("before", [True, False])
def test_verbose_stands_anywhere(
    tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], before: bool
) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    compress = ["compress", str(tmp_path), "-r", "-o", str(tmp_path / "out"), "--bundle", str(tiny_path)]
    assert main(["-vv", *compress] if before else [*compress, "-vv"]) == ExitCode.INPUT
    error = capsys.readouterr().err
    assert f"uigc: {tmp_path / 'a.png'} to {tmp_path / 'out' / 'a.uigc'}, " in error
    for text in (f"uigc: bundle {tiny_path}", "uigc: loaded encoder in ", "b.png: The input is not", "Traceback"):
        assert text in error
    assert main([*compress, "--skip-existing"]) == ExitCode.INPUT
    assert "Traceback" not in capsys.readouterr().err


def test_a_broken_profile_names_its_picture(
    tiny: Codec, tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(PIXELS).save(tmp_path / name, icc_profile=b"broken" if name == "a.png" else None)
    assert main(["compress", "-r", str(tmp_path), "--bundle", str(tiny_path)]) == 0
    warning, summary = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"uigc: warning: {tmp_path / 'a.png'}: The image's colour profile")
    assert summary == f"2 files, {2 * len(tiny.compress(PIXELS))} bytes, beside the inputs"
