"""Files are written completely or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from uigc.runtime.errors import InputError, OutputError
from uigc.runtime.io import files


def test_existing_outputs_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    files.write(path, b"first", force=False)
    with pytest.raises(OutputError, match="--force"):
        files.write(path, b"second", force=False)
    assert path.read_bytes() == b"first"
    files.write(path, b"third", force=True)
    assert path.read_bytes() == b"third"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~files._umask()


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"first")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="No space"):
        files.write(path, b"second", force=True)
    assert [file.name for file in tmp_path.iterdir()] == ["out.bin"]
    assert path.read_bytes() == b"first"


def test_links_and_pipes_stay_what_they_are(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    files.write(link, b"new", force=True)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.write(pipe, b"through", force=True)
        assert os.read(reader, 100) == b"through"
        assert stat.S_ISFIFO(pipe.stat().st_mode)
    finally:
        os.close(reader)


def test_names_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        files.check_free(tmp_path / ("x" * 300), force=False)


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        files.write(tmp_path, b"", force=True)
    with pytest.raises(OutputError, match="cannot be written"):
        files.write(tmp_path / "absent" / "out.bin", b"", force=False)
    with pytest.raises(InputError, match="cannot be read"):
        files.read(str(tmp_path / "absent"))
