"""Files are written completely or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from uigc.runtime.errors import InputError, OutputError
from uigc.runtime.io import atomic, files


def test_existing_outputs_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    files.write(path, b"first", force=False)
    with pytest.raises(OutputError, match="--force"):
        files.write(path, b"second", force=False)
    assert path.read_bytes() == b"first"
    files.write(path, b"third", force=True)
    assert path.read_bytes() == b"third"


@pytest.mark.parametrize("named", [False, True])
def test_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    """A new file has those that the umask leaves, and a replaced one hands its own on; the umask is never touched."""
    if named:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    path, mask = tmp_path / "out.bin", os.umask(0o027)
    monkeypatch.setattr(os, "umask", None)
    try:
        files.write(path, b"first", force=False)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        files.write(path, b"second", force=True)
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        monkeypatch.undo()
        os.umask(mask)


@pytest.mark.parametrize("named", [False, True])
def test_two_writers_of_a_new_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    """One of eight that write at once succeeds, and its bytes are the file's."""
    if named:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    for index in range(20):
        path, start = tmp_path / f"{index}.bin", threading.Barrier(8)

        def write(number: int, path: Path = path, start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                files.write(path, bytes([number]) * 1000, force=False)
            except OutputError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            succeeded = [number for number, done in enumerate(pool.map(write, range(8))) if done]
        assert len(succeeded) == 1
        assert path.read_bytes() == bytes(succeeded) * 1000
    assert len(list(tmp_path.iterdir())) == 20


def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    files.write(tmp_path / "out.bin", b"first", force=False)
    with pytest.raises(OutputError, match="exists"):
        files.write(tmp_path / "out.bin", b"second", force=False)
    files.write(tmp_path / "out.bin", b"third", force=True)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("out.bin", b"third")]


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="needs files without names")
def test_a_killed_writer_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from uigc.runtime.io import atomic; "
        "atomic._write = lambda handle, data: (os.write(handle, data[:10]), os.kill(os.getpid(), 9)); "
        "atomic.put(Path(sys.argv[1]), bytes(1000), False)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "out.bin"])
    assert done.returncode == -9
    assert list(tmp_path.iterdir()) == []


def test_names_as_long_as_they_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    for force in (False, True):
        files.write(path, b"bytes", force)
        assert path.read_bytes() == b"bytes"
        assert len(list(tmp_path.iterdir())) == 1


def test_endless_inputs_end(tmp_path: Path) -> None:
    assert len(files.read("/dev/zero", largest=1000)) == 1001


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


@pytest.mark.skipif(os.name != "posix", reason="files are locked by POSIX's means")
def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files cannot be written without a name; what another one is writing right now is left alone."""
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    code = """
import pathlib, sys
from uigc.runtime.io import atomic

def fill(part):
    part.write_bytes(b"half")
    print(part, flush=True)
    sys.stdin.read()

atomic.replace(pathlib.Path("out"), fill)
"""
    parts = []
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as living:
        assert living.stdout is not None
        parts.append(tmp_path / living.stdout.readline().strip())
        with subprocess.Popen(
            [sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as killed:
            assert killed.stdout is not None
            parts.append(tmp_path / killed.stdout.readline().strip())
            killed.kill()
        parts.append(tmp_path / ".uigc-0123456789abcdef.part")
        parts[2].write_bytes(b"young")
        for part in parts[:2]:
            os.utime(part, (0, 0))
        atomic._remove_left_parts.cache_clear()
        files.write(tmp_path / "x", b"whole", force=False)
        assert [part.exists() for part in parts] == [True, False, True]
        living.communicate("")
    assert living.returncode == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "out": b"half", "x": b"whole", parts[2].name: b"young"
    }  # fmt: skip
