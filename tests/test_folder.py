"""A folder is replaced as a whole, or left as it is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from uigc.runtime.io.folder import complete


def fill(out: Path, text: str, **options: bool) -> None:
    with complete(out, **options) as working:
        (working / "file").write_text(text)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_it_is_there_when_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with complete(out) as working:
        assert not out.exists()
        assert working.parent == out.parent
    assert names(out.parent) == {"out"}
    fill(out, "new")
    assert (out / "file").read_text() == "new"
    with pytest.raises(OSError, match=r"(?i)exist|empty"):
        fill(out, "newer", replace=False)
    assert (out / "file").read_text() == "new"
    assert names(out.parent) == {"out"}


def test_what_is_replaced_is_there_until_the_new_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never removed before; and it comes back if the last step fails."""
    out, rename = tmp_path / "out", Path.rename
    fill(out, "old")

    def failing(self: Path, target: Path) -> Path:
        if target == out and (self / "file").read_text() == "new":
            raise PermissionError("in use")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(PermissionError, match="in use"):
        fill(out, "new")
    assert (out / "file").read_text() == "old"
    assert names(tmp_path) == {"out"}
    monkeypatch.undo()
    with pytest.raises(KeyError), complete(out):
        raise KeyError
    assert (out / "file").read_text() == "old"
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as of files that are in use
    fill(out, "new")
    assert (out / "file").read_text() == "new"


def test_permissions_are_those_of_the_system_or_of_what_is_replaced(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        fill(tmp_path / "out", "")
        assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750
    finally:
        os.umask(before)
    (tmp_path / "out").chmod(0o700)
    fill(tmp_path / "out", "new")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


def test_what_a_link_leads_to_is_replaced(tmp_path: Path) -> None:
    fill(tmp_path / "there", "old")
    (tmp_path / "link").symlink_to("there")
    fill(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_text() == "new"
