"""The program at its edges: streams that are closed or shared, options in any place, names that mislead."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from tests.support.paths import ROOT
from uigc.runtime import providers
from uigc.runtime.cli.main import main
from uigc.runtime.codec import Codec
from uigc.runtime.entry_points import OWN
from uigc.runtime.errors import ExitCode, ProviderError
from uigc.runtime.io.streams import printable

POSIX = pytest.mark.skipif(os.name != "posix", reason="closes streams as POSIX shells do")
PROGRAM = [sys.executable, "-m", "uigc.runtime.cli"]
INTRUDER = """
import os, sys
import uigc.runtime.codec as codec
real = codec.Codec.compress
def compress(*arguments, **options):
    print("a library prints")
    sys.stdout.flush()
    os.write(1, b"and so does native code")
    return real(*arguments, **options)
codec.Codec.compress = compress
from uigc.runtime.cli.main import program
program()
"""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(path)
    return path


def test_standard_output_holds_nothing_but_results(tiny: Codec, tiny_path: Path, photo: Path) -> None:
    command = [sys.executable, "-c", INTRUDER, "compress", photo, "-", "--bundle", tiny_path]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == tiny.compress(np.asarray(Image.open(photo)))
    assert b"a library prints" in done.stderr
    assert b"and so does native code" in done.stderr


@POSIX
@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams(tiny: Codec, tiny_path: Path, photo: Path, tmp_path: Path, closed: str) -> None:
    """Daemons and windowed programs have none: what does not need one works, and no file gets its number."""
    shell = f'exec "$@" {closed}'
    out = tmp_path / "out.uigc"
    command = ["sh", "-c", shell, "sh", *PROGRAM, "compress", photo, out, "--bundle", tiny_path]
    assert subprocess.run(command, cwd=tmp_path).returncode == 0
    assert out.read_bytes() == tiny.compress(np.asarray(Image.open(photo)))
    command = ["sh", "-c", shell, "sh", *PROGRAM, "compress", tmp_path / "absent.png", out, "--force"]
    assert subprocess.run(command, cwd=tmp_path).returncode == ExitCode.INPUT
    assert out.read_bytes() == tiny.compress(np.asarray(Image.open(photo)))


@POSIX
def test_closed_streams_that_are_needed(tiny_path: Path, photo: Path) -> None:
    command = ["sh", "-c", 'exec "$@" 1>&-', "sh", *PROGRAM, "compress", photo, "-", "--bundle", tiny_path]
    done = subprocess.run(command, stderr=subprocess.PIPE)
    assert (done.returncode, b"Standard output is closed" in done.stderr) == (ExitCode.OUTPUT, True)
    command = ["sh", "-c", 'exec "$@" 0<&-', "sh", *PROGRAM, "info", "-"]
    done = subprocess.run(command, stderr=subprocess.PIPE)
    assert done.returncode in (ExitCode.INPUT, ExitCode.UNRECOGNIZED_FILE)


def test_options_stand_anywhere(uigc: Run, tiny: Codec, tiny_path: Path, photo: Path, tmp_path: Path) -> None:
    wanted = tiny.compress(np.asarray(Image.open(photo)), "entire")
    orders = [
        ("--mask", "entire", photo, "{}.uigc", "--bundle", tiny_path),
        (photo, "--mask", "entire", "{}.uigc", "--bundle", tiny_path),
        (photo, "--bundle", tiny_path, "{}.uigc", "--mask", "entire", "--quiet"),
    ]
    for index, order in enumerate(orders):
        done = uigc("compress", *(str(each).format(index) for each in order))
        assert done.returncode == 0, done.stderr
        assert (tmp_path / f"{index}.uigc").read_bytes() == wanted


def test_a_photograph_is_not_overwritten(uigc: Run, tiny_path: Path, photo: Path, tmp_path: Path) -> None:
    """Two images and --force, and -o DIR forgotten."""
    other = tmp_path / "other.jpg"
    Image.new("RGB", (30, 30), "teal").save(other)
    before = other.read_bytes()
    done = uigc("compress", "--force", photo, other, "--bundle", tiny_path)
    assert (done.returncode, b"-o DIR" in done.stderr) == (ExitCode.OUTPUT, True)
    assert other.read_bytes() == before


def test_alone_it_helps(uigc: Run) -> None:
    done = uigc()
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == uigc("--help").stdout
    assert b"compress" in done.stdout


def test_names_are_printed_as_text(uigc: Run, tmp_path: Path) -> None:
    assert printable("\x1b[31mred\u202e\udc80\nétoile 写真") == "\\x1b[31mred\\u202e\\udc80\nétoile 写真"
    done = uigc("info", tmp_path / "\x1b]0;title\x07.uigc")
    assert done.returncode == ExitCode.INPUT
    assert b"\x1b" not in done.stderr
    assert b"\\x1b]0;title\\x07" in done.stderr


def test_without_metadata_the_runtime_has_its_own(tiny_path: Path) -> None:
    """A frozen or copied package has no entry points; the table that stands in for them is that of pyproject.toml."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    for group, own in OWN.items():
        assert own == {name: value for name, value in stated[group].items() if value.startswith("uigc.runtime.")}
    code = (
        "import importlib.metadata as m, sys; m.entry_points = lambda **_: []; "
        "from uigc.runtime.cli.main import main; from uigc.runtime import providers; "
        "assert providers.names() == ['cpu', 'cuda', 'cuda-graphs', 'openvino']; "
        "sys.exit(main(['doctor', '-v', '--bundle', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, tiny_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cpu                 runs" in done.stdout


def test_entry_points_of_others_are_loaded_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With attributes of attributes; one that cannot be loaded fails alone, and none takes a name of the runtime's."""
    (tmp_path / "mine.py").write_text("class All:\n    from uigc.runtime.providers.onnx_runtime import CPU\n")
    metadata = tmp_path / "mine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: mine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[uigc.providers]\nmine = mine:All.CPU\ncpu = mine:All\ngone = mine:Gone\nother = mine:All\n\n"
        "[uigc.commands]\nnone = mine:All.none\nbare = mine\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert providers.find("mine").name == providers.find("cpu").name == "cpu"
    for name in ("none", "bare"):
        assert main([name]) == ExitCode.DEPENDENCY
        assert f"{name!r} cannot be loaded" in capsys.readouterr().err
    for name in ("gone", "other"):
        with pytest.raises(ProviderError, match=f"The provider '{name}' cannot be loaded .*; reinstall its package"):
            providers.find(name)
        assert name not in [each.name for each in providers.available()]
    assert main(["doctor", "-v"]) == 0
    assert capsys.readouterr().out.count("cannot be loaded") == 2
