"""Faults in the middle of the work: nothing is half-written, the exit code is right, and a second run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uigc.runtime import tuning_cache
from uigc.runtime.cli import batch
from uigc.runtime.cli.main import main
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ExitCode
from uigc.runtime.io.samples import SAMPLE
from uigc.runtime.outcomes import unwrap

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="brings faults about by Linux's means")
PROGRAM = [sys.executable, "-m", "uigc.runtime.cli"]
PIXELS = np.random.default_rng(9).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture
def folder(tiny: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the photographs and files of a batch."""
    monkeypatch.chdir(tmp_path)
    data = tiny.compress(PIXELS)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("in/a", "in/b", "in/deep/c"):
        Image.fromarray(PIXELS).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.uigc").write_bytes(data)
    return tmp_path


def run(tiny: Codec, *arguments: str) -> int:
    return main([*arguments, "--bundle", str(tiny.bundle.path), "--threads", "1"])


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@contextmanager
def small_disk() -> Iterator[None]:
    """No file may have more than 4,000 bytes: an image does not fit, as on a full disk.

    For the command alone: pytest's own report may be a longer file.
    """
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_full_disk(
    tiny: Codec, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], named: bool, force: list[str],
) -> None:  # fmt: skip
    """Whether the disk takes files without names or not; the file to be replaced is kept."""
    if named:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    (folder / "out").mkdir()
    if force:
        (folder / "out" / "a.bmp").write_bytes(b"old")
    before = names(folder)
    command = ("decompress", "in/a.uigc", "in/b.uigc", "-o", "out", "--format", "bmp", *force)
    with small_disk():
        assert run(tiny, *command) == ExitCode.OUTPUT
    error = capsys.readouterr().err
    assert error.count("cannot be written (File too large)") == 2
    assert "2 of 2 files failed" in error
    assert names(folder) == before
    assert not force or (folder / "out" / "a.bmp").read_bytes() == b"old"


def test_folders_that_cannot_be(tiny: Codec, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in the place of a folder, and a file system that takes no files, stop what goes there and nothing else."""
    (folder / "out").mkdir()
    (folder / "out" / "deep").write_bytes(b"mine")
    assert run(tiny, "compress", "-r", "in", "-o", "out") == ExitCode.OUTPUT
    assert "out/deep/c.uigc" in (error := capsys.readouterr().err)
    assert "1 of 3 files failed" in error
    assert names(folder / "out") == {"a.uigc", "b.uigc", "deep"}
    assert (folder / "out" / "deep").read_bytes() == b"mine"
    for output in ("out/deep/x.uigc", "out/deep/", "/proc/x.uigc", "/proc/x/", "absent/x.uigc"):
        assert run(tiny, "compress", "in/a.png", "-o", output) == ExitCode.OUTPUT
        assert capsys.readouterr().err.count("\n") == 1
    assert not (folder / "absent").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_batch_that_is_ended_goes_on(tiny: Codec, tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C ends it at once and without a traceback; whatever ended it, the same command again does the rest."""
    (tmp_path / "in").mkdir()
    for index in range(150):
        (tmp_path / "in" / f"{index}.webp").symlink_to(SAMPLE)
    out = tmp_path / "out"
    command = ["compress", str(tmp_path / "in"), "-r", "-o", str(out), "--bundle", str(tiny.bundle.path)]
    # A shell starts what it puts into the background with SIGINT ignored, and so would these tests and their children.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    options: dict[str, Any] = {"stderr": subprocess.PIPE, "start_new_session": True, "preexec_fn": heeding}
    with subprocess.Popen([*PROGRAM, *command], **options) as process:
        while process.poll() is None and not list(out.glob("*.uigc")):
            time.sleep(0.005)
        os.killpg(process.pid, number)
        error = process.communicate(timeout=60)[1]
    assert (process.returncode, error) == (130 if number == signal.SIGINT else -number, b"")
    finished = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert 1 <= len(finished) < 150
    assert main([*command, "--skip-existing", "--quiet"]) == 0
    assert {path.name for path in out.iterdir()} == {f"{index}.uigc" for index in range(150)}
    assert len({path.read_bytes() for path in out.iterdir()}) == 1
    assert all(path.stat().st_mtime_ns == at for path, at in finished.items())


def test_two_processes_with_one_output(tiny: Codec, folder: Path) -> None:
    """One succeeds; the other says that the file exists, whether it finds out before its work or after it."""
    command = [*PROGRAM, "decompress", "-", "out.png", "--bundle", tiny.bundle.path, "--quiet"]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        assert process.stdin is not None
        process.stdin.write((folder / "in" / "a.uigc").read_bytes())
    errors = [process.communicate(timeout=60)[1].decode() for process in both]
    assert sorted(process.returncode for process in both) == [ExitCode.OK, ExitCode.OUTPUT]
    assert "".join(errors) == "uigc: out.png exists; give --force to overwrite it, or another name.\n"
    assert np.array_equal(np.asarray(Image.open(folder / "out.png")), tiny.decompress(tiny.compress(PIXELS)))


def expect_theirs_kept(tiny: Codec, folder: Path, capsys: pytest.CaptureFixture[str], skip: bool) -> None:
    """Compress two images, while somebody writes ``theirs`` to the output of the first."""
    (folder / "in" / "a.uigc").unlink()
    (folder / "in" / "b.uigc").unlink()
    options = ["--skip-existing"] if skip else []
    assert run(tiny, "compress", "in/a.png", "in/b.png", "-o", "in", *options) == (0 if skip else ExitCode.OUTPUT)
    assert ("1 existed and were left" in capsys.readouterr().err) == skip
    assert (folder / "in" / "a.uigc").read_bytes() == b"theirs"
    assert (folder / "in" / "b.uigc").read_bytes() == tiny.compress(PIXELS)


@pytest.mark.parametrize("skip", [True, False])
def test_an_output_that_appears_meanwhile(
    tiny: Codec, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], skip: bool
) -> None:
    """As of a second run beside the first: it is left as it is, and a fault only without --skip-existing."""
    real = Codec.compress_many

    def compress_many(*arguments: Any, **options: Any) -> Iterator[Any]:
        for outcome in real(*arguments, **options):
            (folder / "in" / "a.uigc").write_bytes(b"theirs")
            yield outcome

    monkeypatch.setattr(Codec, "compress_many", compress_many)
    expect_theirs_kept(tiny, folder, capsys, skip)


@pytest.mark.parametrize("skip", [True, False])
def test_an_output_that_appears_before_its_input_is_read(
    tiny: Codec, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], skip: bool
) -> None:
    """As of a second run that is ahead of the first."""
    real = batch._unfinished

    def unfinished(*arguments: Any) -> list[Any]:
        places = real(*arguments)
        (folder / "in" / "a.uigc").write_bytes(b"theirs")
        return places

    monkeypatch.setattr(batch, "_unfinished", unfinished)
    expect_theirs_kept(tiny, folder, capsys, skip)


def test_no_folder_is_made_for_what_is_refused(tiny: Codec, folder: Path) -> None:
    """Options are checked alike for one input and for many."""
    for option in (["--threads", "0"], ["--threads", "-1"], ["--provider", "none"]):
        names = ["in/a.png", "in/b.png", "-o", "new/"]
        command = ["compress", *names, *option, "--bundle", str(tiny.bundle.path)]
        assert main(command) in (ExitCode.USAGE, ExitCode.PROVIDER)
        assert not (folder / "new").exists()


@pytest.mark.parametrize("command", [("decompress", "in/a.uigc", "-"), ("info", "in/a.uigc"), ("--help",)])
def test_readers_that_have_gone_and_full_disks_behind_streams(tiny: Codec, folder: Path, command: list[str]) -> None:
    """Of standard output: exit code 4 and at most a sentence. Of standard error: no fault at all."""
    command = [*PROGRAM, *command, *(["--bundle", str(tiny.bundle.path)] if "decompress" in command else [])]
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as gone:
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (ExitCode.OUTPUT, b"")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE)
        assert (done.returncode, done.stderr.count(b"\n")) == (ExitCode.OUTPUT, 1), done.stderr
        assert done.stderr.startswith(b"uigc: ")
        done = subprocess.run(command, stderr=full, stdout=subprocess.PIPE)
        assert done.returncode == 0
        assert len(done.stdout) > 50


def test_without_a_home(tiny: Codec, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", home)
    assert run(tiny, "compress", "in/a.png", "out.uigc") == 0
    assert (folder / "out.uigc").read_bytes() == tiny.compress(PIXELS)


@pytest.mark.parametrize("fault", ["no home", "a file", "read-only"])
def test_a_cache_that_cannot_be_written(
    tiny: Codec, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    """Compressing does not need it, and tuning says so before it measures."""

    def cache() -> Path:
        if fault == "no home":
            raise RuntimeError("Could not determine home directory.")
        return Path("/proc/uigc") if fault == "read-only" else folder / "in" / "a.png" / "uigc"

    monkeypatch.setattr(tuning_cache, "cache_folder", cache)
    assert run(tiny, "compress", "in/a.png", "out.uigc", "--quiet") == 0
    assert main(["doctor", "--tune", "--bundle", str(tiny.bundle.path)]) == ExitCode.OUTPUT
    assert "The cache of measurements cannot be written" in (error := capsys.readouterr().err)
    assert error.count("\n") == 1


def test_thousands_of_files(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With fewer file handles than files; the second run has nothing to do."""
    import resource

    photo = (folder / "in" / "a.png").read_bytes()
    for index in range(2000):
        (folder / "in" / "deep" / f"{index}.png").write_bytes(photo)
    read: list[int] = []

    def compress_many(images: Iterator[Any], *_: Any, **__: Any) -> Iterator[bytes]:
        for image in images:
            read.append(unwrap(image).shape[0])
            yield b"UIG"

    codec = SimpleNamespace(compress_many=compress_many, limits=SimpleNamespace(check=lambda width, height: None))
    monkeypatch.setattr(batch, "make_codec", lambda arguments: codec)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, before[1]))
    try:
        command = ["compress", "-r", "in", "-o", "out", "--skip-existing"]
        assert main(command) == 0
        assert main(command) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(read) == 2003
    assert len(list((folder / "out").rglob("*.uigc"))) == 2003
    first, second = capsys.readouterr().err.splitlines()
    assert first == "2003 files, 6009 bytes, in out"
    assert second == "0 files, 0 bytes, in out; 2003 existed and were left as they are"
