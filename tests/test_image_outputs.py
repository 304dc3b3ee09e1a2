"""The formats that images are written in: what each keeps, and what is said of those that cannot be written."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import uigc.pillow
from uigc.runtime.cli.main import main
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ExitCode, OutputError
from uigc.runtime.io import image, image_outputs

Image.init()
NOISE = np.random.default_rng(5).integers(0, 256, (9, 5, 3), dtype=np.uint8)
LOSSY = (".jpg", ".jpeg", ".webp", ".avif")
LOSSLESS = [suffix for suffix in image_outputs.OUTPUTS if suffix not in LOSSY]


@pytest.mark.parametrize("suffix", ["", ".PNG", ".webp", *LOSSLESS])
def test_lossless_outputs(suffix: str) -> None:
    assert np.array_equal(image.read(image_outputs.encode(NOISE, suffix)), NOISE)


@pytest.mark.parametrize("suffix", [each for each in LOSSY if image_outputs.OUTPUTS[each].name in Image.SAVE])
def test_lossy_outputs(sample: np.ndarray, suffix: str) -> None:
    """A lower quality is a smaller file, and colours keep their resolution; without one, little is lost."""
    pixels = sample[:160, :240]
    small, large, best = (image_outputs.encode(pixels, suffix, quality) for quality in (20, 90, None))
    assert len(small) < len(large) < len(best)
    assert np.abs(image.read(best).astype(int) - pixels).mean() < 2
    with Image.open(io.BytesIO(large)) as written:
        assert written.format == image_outputs.OUTPUTS[suffix].name


@pytest.mark.parametrize("suffix", [".uigc", ".nothing", ".psd"])
def test_unknown_outputs(suffix: str) -> None:
    with pytest.raises(OutputError, match=r"use one of \.png \.webp \.jpg .*\.ppm"):
        image_outputs.encode(NOISE, suffix)


def test_formats_that_this_pillow_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(Image.SAVE, "AVIF", raising=False)
    with pytest.raises(OutputError, match="no AVIF; update Pillow"):
        image_outputs.encode(NOISE, ".avif")


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ("a.png --quality 80", ExitCode.USAGE, "PNG is lossless and takes no --quality"),
        ("- --quality 80", ExitCode.USAGE, "PNG is lossless"),
        ("--quality 80 -o new/", ExitCode.USAGE, "use one of .webp .jpg .jpeg .avif"),
        ("a.png --format jpg", ExitCode.USAGE, "suffix is .png and --format is jpg"),
        ("a.xyz", ExitCode.OUTPUT, "'.xyz'; use one of .png"),
        ("--format psd", ExitCode.OUTPUT, "'.psd'; use one of .png"),
    ],
)
def test_what_contradicts_itself_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    options: str, code: ExitCode, text: str,
) -> None:  # fmt: skip
    """Before anything is read or made."""
    monkeypatch.chdir(tmp_path)
    assert main(["decompress", "absent.uigc", *options.split()]) == code
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_suffixes_and_formats_choose(
    tiny: Codec, tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = tiny.compress(NOISE)
    for name in ("a.uigc", "b.uigc"):
        (tmp_path / name).write_bytes(data)
    wanted = {"c.ppm": "PPM", "d.JPG": "JPEG", "e": "WEBP", "a.webp": "WEBP"}
    wanted |= {"many/a.jpeg": "JPEG", "many/b.jpeg": "JPEG"}
    many = "b.uigc -o many/ --format jpeg"
    for options in ("c.ppm", "d.JPG --format jpeg", "e --format .webp", "--format WEBP", many):
        command = ["decompress", "a.uigc", *options.split(), "--bundle", str(tiny_path), "--quiet"]
        assert main(command + (["--quality", "50"] if "PPM" not in options.upper() else [])) == 0
    for name, format in wanted.items():
        with Image.open(tmp_path / name) as written:
            assert (written.format, written.size) == (format, (5, 9))


def test_which_names_are_those_of_images() -> None:
    """A .uigc file's is none, although Pillow knows the suffix while its plug-in is imported."""
    assert Image.registered_extensions()[uigc.pillow.SUFFIX] == uigc.pillow.FORMAT
    image_outputs.check_not_image("photo.UIGC")
    image_outputs.check_not_image("photo")
    with pytest.raises(OutputError, match=r"named like an image \(\.png\)"):
        image_outputs.check_not_image("photo.uigc.PNG")
