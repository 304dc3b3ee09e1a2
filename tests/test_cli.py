"""The command line as a user meets it: exit codes, one sentence an error, nothing half-written."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import unsafe
from tests.conftest import Run
from uigc.runtime import Codec, ExitCode

RNG = np.random.default_rng(13)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in.png"
    Image.fromarray(RNG.integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def file(tiny: Codec, picture: Path, tmp_path: Path) -> Path:
    path = tmp_path / "in.uigc"
    path.write_bytes(tiny.compress(np.asarray(Image.open(picture))))
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


def test_there_and_back(uigc: Run, picture: Path, tmp_path: Path, tiny_path: Path) -> None:
    done = uigc("compress", picture, "out.uigc", "--bundle", tiny_path, "--mask", "edge_more", "--threads", 1)
    assert done.returncode == 0, done.stderr
    size = (tmp_path / "out.uigc").stat().st_size
    assert f"{size} bytes, {8 * size / 3500:.5f} bits per pixel" in done.stderr.decode()
    done = uigc("decompress", "out.uigc", "out.png", "--bundle", tiny_path, "--quiet")
    assert (done.returncode, done.stderr) == (0, b"")
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (70, 50)


def test_streams(uigc: Run, picture: Path, tiny_path: Path) -> None:
    packed = uigc("compress", "-", "-", "--bundle", tiny_path, data=picture.read_bytes())
    assert packed.stdout.startswith(b"UIG")
    back = uigc("decompress", "-", "-", "--bundle", tiny_path, data=packed.stdout)
    with Image.open(io.BytesIO(back.stdout)) as image:
        assert (image.format, image.size) == ("PNG", (70, 50))


def test_info(uigc: Run, file: Path) -> None:
    figures = json.loads(uigc("info", file, "--json").stdout)
    assert (figures["width"], figures["height"], figures["mask"]) == (70, 50, "edge")
    assert figures["bytes"] == file.stat().st_size
    assert b"bits per pixel" in uigc("info", file).stdout


def test_refused_files(uigc: Run, file: Path, tmp_path: Path, picture: Path, tiny_path: Path) -> None:
    data = file.read_bytes()
    flipped = bytearray(data)
    flipped[-3] ^= 16
    cases = {
        "empty": (b"", ExitCode.NOT_OURS, "empty"),
        "png": (picture.read_bytes(), ExitCode.NOT_OURS, "not a .uigc file"),
        "truncated": (data[:-5], ExitCode.DAMAGED, "truncated"),
        "flipped": (bytes(flipped), ExitCode.DAMAGED, "checksum"),
        "longer": (data + b"!", ExitCode.DAMAGED, "behind its end"),
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
    fails(uigc, ExitCode.OTHER_PRIOR, "decompress", file, "out.png", "--bundle", tiny_path, text="--bundle")


def test_inputs_and_outputs(uigc: Run, picture: Path, file: Path, tmp_path: Path, tiny_path: Path) -> None:
    bundle = ("--bundle", tiny_path)
    fails(uigc, ExitCode.INPUT, "compress", tmp_path / "absent.png", "out.uigc", *bundle, text="cannot be read")
    fails(uigc, ExitCode.INPUT, "compress", file, "out.uigc", *bundle, text="no picture")
    fails(uigc, ExitCode.OUTPUT, "compress", picture, file, *bundle, text="--force")
    fails(uigc, ExitCode.OUTPUT, "decompress", file, "out.xyz", *bundle, text=".xyz")
    fails(uigc, ExitCode.OUTPUT, "decompress", file, "absent/out.png", *bundle, text="cannot be written")
    fails(uigc, ExitCode.BUNDLE, "compress", picture, "out.uigc", "--bundle", tmp_path, text="manifest.json")
    fails(uigc, ExitCode.PROVIDER, "compress", picture, "out.uigc", *bundle, "--provider", "cuda", text="CUDA")
    fails(uigc, ExitCode.TOO_LARGE, "compress", picture, "out.uigc", *bundle, "--max-pixels", 99, text="70x50")
    fails(uigc, ExitCode.USAGE, "compress", picture, "out.uigc", *bundle, "--threads", 0, text="1 to 1024")
    assert uigc("compress", picture, file, *bundle, "--force", "--quiet").returncode == 0


def test_full_disks_and_closed_streams(uigc: Run, picture: Path, file: Path, tmp_path: Path, tiny_path: Path) -> None:
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
    assert findings["bundle"]["state"] == "whole"
    assert findings["proof"]["certificates"] == 18
    proven = uigc("doctor", "--bundle", tiny_path, "--prove")
    assert proven.returncode == 0, proven.stderr
    assert b"18 graphs proven again" in proven.stdout
    unsound = unsafe.spoil(tiny_path, tmp_path / "unsound", unsafe.weights_alone)
    assert uigc("doctor", "--bundle", unsound).returncode == 0
    assert uigc("doctor", "--bundle", unsound, "--prove").returncode == ExitCode.INEXACT
    broken = uigc("doctor", "--bundle", tmp_path)
    assert broken.returncode == ExitCode.BUNDLE
    assert b"providers:" in broken.stdout


def test_export_says_what_is_missing(uigc: Run, tmp_path: Path) -> None:
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "tokenizer.safetensors").write_bytes(b"no such thing")
    fails(uigc, ExitCode.INPUT, "export", tmp_path / "damaged", "-o", "bundle", text="no trained tokenizer")
    fails(uigc, ExitCode.INPUT, "export", tmp_path, "-o", "bundle", text="tokenizer.safetensors")
