"""``uigc doctor``: the verdict first and true, everything else on request."""

from __future__ import annotations

import builtins
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from uigc.runtime.cli import doctor
from uigc.runtime.cli.main import main
from uigc.runtime.entry_points import installed
from uigc.runtime.environment import package_version
from uigc.runtime.errors import ExitCode

NAME = f"uigc {package_version('uigc')}"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str], str]:
    code = main(["doctor", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def test_the_verdict_comes_first(tiny_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, short, _ = run(capsys, "--bundle", tiny_path)
    assert (code, len(short)) == (0, 2)
    assert short[0].startswith(f"{NAME} works here, on cpu")
    assert str(tiny_path) in short[1]
    code, long, _ = run(capsys, "--bundle", tiny_path, "-v")
    assert (code, long[:2]) == (0, short)
    sections = [line.split()[0].rstrip(":") for line in long[2:] if not line.startswith(" ")]
    assert sections == list(doctor.SECTIONS)


def test_a_missing_and_a_broken_onnxruntime(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only where the package is missing is it to be installed."""
    real, find = builtins.__import__, importlib.util.find_spec

    def broken(name: str, *rest: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError("libonnxruntime.so: cannot\nopen")
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.setattr(builtins, "__import__", broken)
    monkeypatch.setattr(doctor.providers, "names", lambda: ["cpu"])
    code, out, err = run(capsys, "--bundle", tiny_path)
    assert code == ExitCode.PROVIDER
    assert out == [f"{NAME} does not work here: {err.removeprefix('uigc: ').rstrip()}"]
    assert "cannot be imported (libonnxruntime.so: cannot open)" in err
    assert "--force-reinstall" in err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnxruntime" else find(name))
    code, _, err = run(capsys, "--bundle", tiny_path)
    assert code == ExitCode.PROVIDER
    assert "is not installed; install it with: pip install 'uigc[cpu]'" in err


def test_nothing_that_proves(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "installed", lambda group: {} if group == doctor.CHECKS else installed(group))
    code, out, _ = run(capsys, "--bundle", tiny_path, "--prove")
    assert code == ExitCode.DEPENDENCY
    assert out[0].startswith(f"{NAME} works here")
    assert out[2].startswith("Its graphs were not proven again: Nothing installed can prove")
