"""``uigc compress`` with ``--bpp``, ``--size`` and ``--quality``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_rate_control import picture
from uigc.runtime.cli.main import main
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ExitCode
from uigc.runtime.io import image_outputs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(image_outputs.encode(picture(97, 203, number), ".png"))
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        (["--bpp", "0.04"], {"bpp": 0.04}),
        (["--size", "95"], {"size": 95}),
        (["-q", "40"], {"quality": 40}),
        (["--quality", "40"], {"quality": 40}),
        ([], {}),
    ],
)
def test_one_and_many(tiny: Codec, tiny_path: Path, folder: Path, flags: list[str], options: dict[str, float]) -> None:
    names = [str(folder / f"{number}.png") for number in range(2)]
    common = ["--bundle", str(tiny_path), "--quiet", *flags]
    assert main(["compress", names[0], str(folder / "one.uigc"), *common]) == 0
    assert main(["compress", *names, "-o", f"{folder}/many/", *common]) == 0
    wanted = [tiny.compress(name, **options) for name in names]  # type: ignore[arg-type]
    assert (folder / "one.uigc").read_bytes() == wanted[0]
    assert [(folder / "many" / f"{number}.uigc").read_bytes() for number in range(2)] == wanted


def test_what_is_said_of_a_file_names_it(tiny_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(folder / f"{number}.png") for number in range(2)]
    assert main(["compress", *names, "-o", f"{folder}/", "--bundle", str(tiny_path), "--size", "4000"]) == 0
    said = capsys.readouterr().err
    for name in names:
        assert f"uigc: warning: {name}: The file has " in said


def test_one_of_them_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", str(folder / "0.png"), "--size", "90", "--mask", "edge"]) == ExitCode.USAGE
    assert "mask and size were given, and each of them decides" in capsys.readouterr().err
