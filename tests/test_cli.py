"""The command line as a user meets it: exit codes, errors of one sentence, nothing half-written."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from tests.support import inexact_bundles
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ExitCode

RNG = np.random.default_rng(13)


@pytest.fixture
def image_path(tmp_path: Path) -> Path:
    path = tmp_path / "in.png"
    Image.fromarray(RNG.integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def file(tiny: Codec, image_path: Path, tmp_path: Path) -> Path:
    path = tmp_path / "in.uigc"
    path.write_bytes(tiny.compress(np.asarray(Image.open(image_path))))
    return path


def fails(uigc: Run, code: ExitCode, *arguments: object, text: str = "", data: bytes | None = None) -> None:
    folder = Path(str(arguments[1])).parent
    before = set(folder.iterdir())
    done = uigc(*arguments, data=data)
    message = done.stderr.decode()
    assert done.returncode == code, message
    assert message.startswith("uigc: ")
    assert text in message
    assert message.count("\n") == 1
    assert "Traceback" not in message
    assert set(folder.iterdir()) == before  # nothing was left behind


def test_there_and_back(uigc: Run, image_path: Path, tmp_path: Path, tiny_path: Path) -> None:
    done = uigc("compress", image_path, "out.uigc", "--bundle", tiny_path, "--mask", "edge_more", "--threads", 1)
    assert done.returncode == 0, done.stderr
    size = (tmp_path / "out.uigc").stat().st_size
    assert f"{size} bytes, {8 * size / 3500:.5f} bits per pixel" in done.stderr.decode()
    done = uigc("decompress", "out.uigc", "out.png", "--bundle", tiny_path, "--quiet")
    assert (done.returncode, done.stderr) == (0, b"")
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (70, 50)


def test_streams(uigc: Run, image_path: Path, tiny_path: Path) -> None:
    packed = uigc("compress", "-", "-", "--bundle", tiny_path, data=image_path.read_bytes())
    assert packed.stdout.startswith(b"UIG")
    back = uigc("decompress", "-", "-", "--bundle", tiny_path, data=packed.stdout)
    with Image.open(io.BytesIO(back.stdout)) as image:
        assert (image.format, image.size) == ("PNG", (70, 50))


def test_info(uigc: Run, file: Path) -> None:
    figures = json.loads(uigc("info", file, "--json").stdout)
    assert (figures["width"], figures["height"], figures["mask"]) == (70, 50, "edge")
    assert figures["bytes"] == file.stat().st_size
    assert b"bits per pixel" in uigc("info", file).stdout


def test_refused_files(uigc: Run, file: Path, tmp_path: Path, image_path: Path, tiny_path: Path) -> None:
    data = file.read_bytes()
    flipped = bytearray(data)
    flipped[-3] ^= 16
    cases = {
        "empty": (b"", ExitCode.UNRECOGNIZED_FILE, "empty"),
        "png": (image_path.read_bytes(), ExitCode.UNRECOGNIZED_FILE, "not a .uigc file"),
        "truncated": (data[:-5], ExitCode.CORRUPT_FILE, "truncated"),
        "flipped": (bytes(flipped), ExitCode.CORRUPT_FILE, "checksum"),
        "longer": (data + b"!", ExitCode.CORRUPT_FILE, "behind its end"),
    }
    for name, (content, code, text) in cases.items():
        path = tmp_path / f"{name}.uigc"
        path.write_bytes(content)
        fails(uigc, code, "decompress", path, "out.png", "--bundle", tiny_path, text=text)
        fails(uigc, code, "info", path, text=text)
    assert not (tmp_path / "out.png").exists()


def test_another_bundle(uigc: Run, file: Path, tmp_path: Path, tiny_path: Path) -> None:
    data = bytearray(file.read_bytes())
    data[5] ^= 0xFF
    import zlib

    data[9:13] = zlib.crc32(data[:9] + data[13:]).to_bytes(4, "big")
    file.write_bytes(data)
    fails(uigc, ExitCode.PRIOR_MISMATCH, "decompress", file, "out.png", "--bundle", tiny_path, text="--bundle")


def test_inputs_and_outputs(uigc: Run, image_path: Path, file: Path, tmp_path: Path, tiny_path: Path) -> None:
    bundle = ("--bundle", tiny_path)
    fails(uigc, ExitCode.INPUT, "compress", tmp_path / "absent.png", "out.uigc", *bundle, text="cannot be read")
    fails(uigc, ExitCode.INPUT, "compress", file, "out.uigc", *bundle, text="not an image")
    fails(uigc, ExitCode.OUTPUT, "compress", image_path, file, *bundle, text="--force")
    fails(uigc, ExitCode.OUTPUT, "decompress", file, "out.xyz", *bundle, text=".xyz")
    fails(uigc, ExitCode.OUTPUT, "decompress", file, "absent/out.png", *bundle, text="cannot be written")
    fails(uigc, ExitCode.BUNDLE, "compress", image_path, "out.uigc", "--bundle", tmp_path, text="manifest.json")
    fails(uigc, ExitCode.PROVIDER, "compress", image_path, "out.uigc", *bundle, "--provider", "cuda", text="CUDA")
    fails(uigc, ExitCode.TOO_LARGE, "compress", image_path, "out.uigc", *bundle, "--max-pixels", 99, text="70x50")
    fails(uigc, ExitCode.USAGE, "compress", image_path, "out.uigc", *bundle, "--threads", 0, text="1 to 1024")
    assert uigc("compress", image_path, file, *bundle, "--force", "--quiet").returncode == 0


def test_full_disks_and_closed_streams(
    uigc: Run, image_path: Path, file: Path, tmp_path: Path, tiny_path: Path
) -> None:
    fails(uigc, ExitCode.OUTPUT, "decompress", file, "/dev/full", "--bundle", tiny_path, "--force", text="No space")
    fails(uigc, ExitCode.OUTPUT, "decompress", file, "x" * 300 + ".png", "--bundle", tiny_path, text="cannot be")
    fails(uigc, ExitCode.OUTPUT, "decompress", file, "out.ico", "--bundle", tiny_path, text=".ico")


def test_usage(uigc: Run) -> None:
    assert uigc("--help").returncode == 0
    assert uigc("compress").returncode == ExitCode.USAGE
    assert uigc("compress", "a", "b", "--mask", "none").returncode == ExitCode.USAGE
    assert uigc("--version").stdout.startswith(b"uigc ")


def test_doctor(uigc: Run, tiny_path: Path, tmp_path: Path) -> None:
    done = uigc("doctor", "--bundle", tiny_path, "--json")
    findings = json.loads(done.stdout)
    assert done.returncode == 0
    assert findings["providers"]["cpu"] == "runs"
    assert findings["bundle"]["state"] == "valid"
    assert findings["proof"]["certificates"] == 12
    proven = uigc("doctor", "--bundle", tiny_path, "--prove")
    assert proven.returncode == 0, proven.stderr
    assert b"12 graphs proven again" in proven.stdout
    assert b"works here, on cpu" in proven.stdout.splitlines()[0]
    unsound = inexact_bundles.spoil(tiny_path, tmp_path / "unsound", inexact_bundles.weights_alone)
    assert uigc("doctor", "--bundle", unsound).returncode == 0
    assert uigc("doctor", "--bundle", unsound, "--prove").returncode == ExitCode.INEXACT
    broken = uigc("doctor", "--bundle", tmp_path)
    assert broken.returncode == ExitCode.BUNDLE
    assert broken.stdout.startswith(b"uigc ")
    assert b"does not work here: There is no bundle at " in broken.stdout


def test_export_names_what_is_missing(uigc: Run, tmp_path: Path) -> None:
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "tokenizer.safetensors").write_bytes(b"no such thing")
    fails(uigc, ExitCode.INPUT, "export", tmp_path / "damaged", "-o", "bundle", text="not a trained tokenizer")
    fails(uigc, ExitCode.INPUT, "export", tmp_path, "-o", "bundle", text="tokenizer.safetensors")


def test_many_files_into_a_folder(uigc: Run, image_path: Path, tmp_path: Path, tiny_path: Path) -> None:
    for index, size in enumerate([(50, 70), (70, 50), (60, 75)]):
        Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / f"{index}.png")
    names = ["0.png", "1.png", "2.png", "in.png"]
    done = uigc("compress", *names, "-o", "new/files", "--bundle", tiny_path, "--jobs", 2, "--batch", 2)
    assert done.returncode == 0, done.stderr
    written = sorted((tmp_path / "new" / "files").iterdir())
    assert [path.name for path in written] == ["0.uigc", "1.uigc", "2.uigc", "in.uigc"]
    assert f"4 files, {sum(path.stat().st_size for path in written)} bytes" in done.stderr.decode()
    assert uigc("compress", image_path, "one.uigc", "--bundle", tiny_path).returncode == 0
    assert written[-1].read_bytes() == (tmp_path / "one.uigc").read_bytes()
    done = uigc("decompress", *written, "-o", "back", "--format", "webp", "--bundle", tiny_path, "--quiet")
    assert (done.returncode, done.stderr) == (0, b"")
    with Image.open(tmp_path / "back" / "2.webp") as image:
        assert (image.format, image.size) == ("WEBP", (75, 60))


def test_bad_files_are_named_and_stop_no_other(uigc: Run, file: Path, tmp_path: Path, tiny_path: Path) -> None:
    (tmp_path / "cut.uigc").write_bytes(file.read_bytes()[:-2])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept.png").write_bytes(b"mine")
    (tmp_path / "kept.uigc").write_bytes(file.read_bytes())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "in.uigc").write_bytes(file.read_bytes())
    names = ["cut.uigc", "absent.uigc", "kept.uigc", "in.uigc", "other/in.uigc"]
    done = uigc("decompress", *names, "-o", "out", "--bundle", tiny_path)
    *lines, summary, last = done.stderr.decode().splitlines()
    assert done.returncode == ExitCode.CORRUPT_FILE  # of the first that failed
    for line, name, text in zip(
        lines,
        ("cut.uigc", "absent.uigc", "kept.png", "other/in.uigc"),
        ("truncated", "cannot be read", "exists", "rename one"),
        strict=True,
    ):
        assert line.startswith("uigc: ")
        assert name in line
        assert text in line
    assert summary.startswith("1 files, ")
    assert last.startswith("uigc: 4 of 5 files failed")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"kept.png", "in.png"}
    assert (tmp_path / "out" / "kept.png").read_bytes() == b"mine"


def test_names_and_folders(uigc: Run, image_path: Path, tmp_path: Path) -> None:
    fails(uigc, ExitCode.USAGE, "compress", image_path, "a.uigc", "b.uigc", text="3 names were given, and IN and OUT")
    fails(uigc, ExitCode.USAGE, "compress", image_path, "-", "-o", "out", text="Standard input")
    fails(uigc, ExitCode.OUTPUT, "compress", image_path, "-o", image_path, text="named like an image")
    fails(uigc, ExitCode.OUTPUT, "compress", image_path, "-o", f"{image_path}/out/", text="cannot be created")
    fails(uigc, ExitCode.OUTPUT, "decompress", image_path, "-o", "out", "--format", "txt", text="cannot be written as")
