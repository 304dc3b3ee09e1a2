"""Where results go: default names, -o FILE and -o DIR/, trees of folders, and what is never overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uigc.runtime.cli.main import main
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ExitCode
from uigc.runtime.io import image
from uigc.runtime.io.image_sources import SUFFIXES

PIXELS = np.random.default_rng(4).integers(0, 256, (20, 30, 3), dtype=np.uint8)


class Folder:
    """A folder with photographs, in which commands run."""

    def __init__(self, path: Path, bundle: Path) -> None:
        self.path, self.bundle = path, bundle

    def photo(self, name: str) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS).save(self.path / name)

    def run(self, *arguments: str) -> int:
        return main([*arguments, "--bundle", str(self.bundle), "--threads", "1"])

    def files(self) -> set[str]:
        return {path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    made = Folder(tmp_path, tiny_path)
    made.photo("photo.png")
    return made


@pytest.fixture(scope="module")
def wanted(tiny: Codec) -> bytes:
    return tiny.compress(PIXELS)


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence on standard error; standard output is empty."""
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


def test_an_input_that_is_named_twice_is_one(folder: Folder, wanted: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    folder.photo("in/a.png")
    names = ("in", "in", "photo.png", "photo.png", "./photo.png", str(folder.path / "photo.png"))
    assert folder.run("compress", "-r", *names, "-o", "out/") == 0
    assert "2 files" in sentence(capsys)
    assert folder.run("compress", "-r", *names) == 0
    assert "2 files" in sentence(capsys)
    assert (folder.path / "out" / "a.uigc").read_bytes() == (folder.path / "out" / "photo.uigc").read_bytes() == wanted


def test_default_names(folder: Folder, wanted: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    assert folder.run("compress", "photo.png") == 0
    assert "photo.uigc: 30x20 pixels" in sentence(capsys)
    assert (folder.path / "photo.uigc").read_bytes() == wanted
    assert folder.run("decompress", "photo.uigc") == ExitCode.OUTPUT  # which would replace the photograph
    assert "photo.png exists; give --force" in sentence(capsys)
    assert folder.run("decompress", "photo.uigc", "--format", "ppm") == 0
    assert folder.files() == {"photo.png", "photo.uigc", "photo.ppm"}


@pytest.mark.parametrize(
    ("output", "written"),
    [("x.uigc", "x.uigc"), ("x.bin", "x.bin"), ("new/", "new/photo.uigc"), ("new", "new/photo.uigc"),
     ("new.uigc/", "new.uigc/photo.uigc"), ("there.d", "there.d/photo.uigc"), ("file", "file")],
)  # fmt: skip
def test_the_output_of_one(folder: Folder, wanted: bytes, output: str, written: str) -> None:
    (folder.path / "there.d").mkdir()
    (folder.path / "file").write_bytes(b"old")
    assert folder.run("compress", "photo.png", "-o", output, "--force") == 0
    assert (folder.path / written).read_bytes() == wanted
    assert folder.files() == {"photo.png", "file", written}


@pytest.mark.parametrize("output", ["x.uigc", "photo.png", "new.jpg", "-"])
def test_many_results_need_a_folder(folder: Folder, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder.photo("other.png")
    assert folder.run("compress", "photo.png", "other.png", "-o", output) == ExitCode.USAGE
    assert "give a folder, as in -o DIR/" in sentence(capsys)
    assert folder.run("compress", ".", "--recursive", "-o", output) == ExitCode.USAGE
    assert folder.files() == {"photo.png", "other.png"}


def test_trees_are_kept(folder: Folder, wanted: bytes) -> None:
    folder.photo("in/a.png")
    folder.photo("in/deep/er/a.b.PNG")
    (folder.path / "in" / "deep" / "notes.txt").write_bytes(b"no image")
    os.mkfifo(folder.path / "in" / "pipe.png")
    (folder.path / "in" / "loop").symlink_to(folder.path / "in")
    assert folder.run("compress", "--recursive", "in", "photo.png", "-o", "out") == 0
    out = {"out/a.uigc", "out/deep/er/a.b.uigc", "out/photo.uigc"}
    assert folder.files() == {"photo.png", "in/a.png", "in/deep/er/a.b.PNG", "in/deep/notes.txt", *out}
    assert all((folder.path / name).read_bytes() == wanted for name in out)
    assert folder.run("decompress", "-r", "out", "--format", "jpg", "--quiet") == 0
    assert {"out/a.jpg", "out/deep/er/a.b.jpg", "out/photo.jpg"} < folder.files()
    assert folder.run("compress", "-r", "in") == 0
    assert {"in/a.uigc", "in/deep/er/a.b.uigc"} < folder.files()


def test_what_a_folder_holds(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """Bad pictures, dead links and two images of one name are named, and stop no other."""
    folder.photo("in/good.png")
    folder.photo("in/twin.png")
    folder.photo("in/twin.tif")
    (folder.path / "in" / "bad.webp").write_bytes(b"RIFF but no image")
    (folder.path / "in" / "dead.png").symlink_to("absent")
    (folder.path / "empty").mkdir()
    assert folder.run("compress", "-r", "in", "empty", "-o", "out/") == ExitCode.INPUT
    *errors, summary, last = capsys.readouterr().err.splitlines()
    for line, text in zip(errors, ("in/bad.webp", "in/dead.png", "in/twin.tif would be", "empty"), strict=True):
        assert text in line
    assert summary.startswith("2 files, ")
    assert last == ("uigc: 4 of 6 files failed, for the reasons above; the outputs of the others are complete.")
    assert {name for name in folder.files() if name.startswith("out")} == {"out/good.uigc", "out/twin.uigc"}


def test_folders_need_to_be_asked_for(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.photo("in/good.png")
    assert folder.run("compress", "in") == ExitCode.INPUT
    assert "add --recursive" in sentence(capsys)
    assert folder.run("compress", "in", "photo.png", "-o", "out/") == ExitCode.INPUT
    assert "in is a folder" in capsys.readouterr().err
    assert folder.files() == {"photo.png", "in/good.png", "out/photo.uigc"}


def test_a_second_run_goes_on(folder: Folder, wanted: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.png", "c.png"):
        folder.photo(f"in/{name}")
    (folder.path / "out").mkdir()
    (folder.path / "out" / "b.uigc").write_bytes(b"finished earlier")
    assert folder.run("compress", "-r", "in", "-o", "out", "--skip-existing") == 0
    assert "2 files, " in (text := sentence(capsys))
    assert "; 1 existed and were left as they are" in text
    assert (folder.path / "out" / "b.uigc").read_bytes() == b"finished earlier"
    assert (folder.path / "out" / "c.uigc").read_bytes() == wanted
    assert folder.run("compress", "in/b.png", "-o", "out", "--skip-existing") == 0
    assert "out/b.uigc: exists and was left" in sentence(capsys)
    assert folder.run("compress", "-r", "in", "-o", "out", "--skip-existing", "--force") == ExitCode.USAGE
    assert "one of the two" in sentence(capsys)


@pytest.mark.parametrize("one", ["photo.png", "link.uigc", "plain"])
def test_no_photograph_is_overwritten(folder: Folder, one: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By its name, by a link to it, or as the input itself."""
    folder.photo("photo.png")
    before = (folder.path / "photo.png").read_bytes()
    (folder.path / "link.uigc").symlink_to("photo.png")
    (folder.path / "plain").write_bytes(before)
    (folder.path / "link.png").symlink_to("photo.png")
    source = "plain" if one == "plain" else "photo.png"
    assert folder.run("compress", source, one, "--force") == ExitCode.OUTPUT
    assert "give" in sentence(capsys)
    assert folder.run("compress", "link.png", "--force") == ExitCode.OUTPUT
    assert folder.run("compress", "link.png", "photo.png", "-o", ".", "--force") == ExitCode.OUTPUT
    assert (folder.path / "photo.png").read_bytes() == (folder.path / "plain").read_bytes() == before


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "absent/x.png", "photo.png/x.png"])
@pytest.mark.parametrize("output", [(), ("out.uigc",), ("-o", "out/"), ("-r", "-o", "out/", "photo.png")])
def test_names_that_cannot_be_inputs(
    folder: Folder, name: str, output: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """An input that does not exist is an input that cannot be read, wherever its result should have gone."""
    codes = {ExitCode.OUTPUT, ExitCode.INPUT} if len(name) > 255 else {ExitCode.INPUT}  # such an output cannot be, too
    assert folder.run("compress", name, *output) in codes
    assert "Unexpected" not in capsys.readouterr().err
    assert folder.files() - {"photo.png"} <= {"out/photo.uigc"}


@pytest.mark.parametrize("names", [("",), ("-r", ""), ("photo.png", ""), ("photo.png", "-o", "")])
def test_empty_names(folder: Folder, names: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """As of a variable that is not set: it is no name for the folder that one happens to be in."""
    assert folder.run("compress", *names) == ExitCode.USAGE
    assert "A name is empty" in sentence(capsys)
    assert folder.files() == {"photo.png"}


def test_suffixes_are_those_of_the_formats() -> None:
    image._available()
    registered = {suffix for suffix, name in Image.registered_extensions().items() if name in image.FORMATS}
    assert registered <= set(SUFFIXES)
    assert {"." + name for name in ("heic", "jxl", "jpg", "png", "tif", "webp", "avif")} <= set(SUFFIXES)
