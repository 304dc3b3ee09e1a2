"""What errors advise is possible, and speaks of what the reader has in hand."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from uigc.runtime.cli.main import main
from uigc.runtime.codec import Codec
from uigc.runtime.errors import TooLargeError
from uigc.runtime.format.bitstream import check_size
from uigc.runtime.io.samples import SAMPLE

ROOMS = [path for path in sorted((ROOT / "runtime").rglob("*.py")) if path.parent.name not in ("cli", "io")]


def test_too_large_in_two_ways() -> None:
    """No limit that the user could raise lets a side through that the format does not hold."""
    with pytest.raises(TooLargeError, match="at most 16384 a side; scale it down") as too_long:
        check_size(16385, 1, 1 << 25)
    assert "max-pixels" not in str(too_long.value)
    with pytest.raises(TooLargeError, match=r"raise the limit \(--max-pixels\)"):
        check_size(16384, 16384, 1 << 25)


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: path.name)
def test_options_are_named_beside_the_advice(path: Path) -> None:
    """Programs that call the library have no options: they stand in brackets, behind what serves both."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise):
            constants = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
            text = " ".join(each for each in constants if isinstance(each, str))
            assert not re.search(r"(?<![(\w'])--[a-z]", re.sub(r"'[^']*'", "", text)), text


@pytest.mark.parametrize(("option", "reads"), [("--read-back", True), ("--no-read-back", False), (None, False)])
def test_reading_back_is_an_option(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str | None, reads: bool
) -> None:
    seen = []
    real = Codec.compress

    def compress(codec: Codec, *arguments: object, **options: object) -> bytes:
        seen.append(codec._reader is not None)
        return real(codec, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Codec, "compress", compress)
    command = ["compress", str(SAMPLE), str(tmp_path / "a.uigc"), "--bundle", str(tiny_path), "--quiet"]
    assert main([*command, *([option] if option else [])]) == 0
    assert seen == [reads]
