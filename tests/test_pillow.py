"""Pillow's plug-in: what Image.open, Image.save and everything of Pillow that stands on them make of .uigc files."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageSequence, UnidentifiedImageError

import uigc.pillow
from tests.support.paths import ROOT
from uigc.runtime import errors
from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import Codec
from uigc.runtime.format.bitstream import Header, pack, read_header
from uigc.runtime.format.mask_mode import MaskMode
from uigc.runtime.outcomes import capture

PIXELS = np.random.default_rng(21).integers(0, 256, (40, 70, 3), np.uint8)
CORPUS = sorted((ROOT / "fuzz" / "corpus" / "files").glob("*.uigc"))


@pytest.fixture(autouse=True)
def configured(tiny_path: Path) -> Iterator[None]:
    uigc.pillow.configure(bundle=tiny_path, threads=1)
    yield
    uigc.pillow.configure()


@pytest.fixture
def file(tiny: Codec, tmp_path: Path) -> Path:
    path = tmp_path / "x.uigc"
    path.write_bytes(tiny.compress(PIXELS, "edge+draw7"))
    return path


@pytest.fixture
def pixels(tiny: Codec, file: Path) -> np.ndarray:
    return tiny.decompress(file)


def saved(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "UIGC", **options)
    return buffer.getvalue()


LAZY = """
import sys
import uigc.pillow
from PIL import Image
image = Image.open(sys.argv[1])
print(image.size, image.info["mask"], *sys.modules)
uigc.pillow.configure(bundle=sys.argv[2], threads=1)
print(image.getpixel((0, 0)), *sys.modules)
"""


def test_opening_loads_nothing_heavy(file: Path, tiny_path: Path, pixels: np.ndarray) -> None:
    done = subprocess.run([sys.executable, "-c", LAZY, file, tiny_path], capture_output=True, text=True, check=True)
    opened, loaded = done.stdout.splitlines()
    assert opened.startswith("(70, 40) edge ")
    heavy = {"numpy", "constriction", "onnxruntime", "uigc.runtime.bundle"}
    assert not heavy & set(opened.split())
    assert heavy < set(loaded.split())
    assert loaded.startswith(str(tuple(pixels[0, 0].tolist())))


def test_what_is_opened(file: Path, tiny: Codec, pixels: np.ndarray) -> None:
    with Image.open(file) as image:
        assert isinstance(image, uigc.pillow.UigcImageFile)
        assert (image.size, image.mode, image.format) == ((70, 40), "RGB", "UIGC")
        assert image.get_format_mimetype() == "image/x-uigc"
        assert image.info == {
            "format_version": 1, "mask": "edge", "seed": 7, "prior": tiny.bundle.prior_id[:4].hex(),
            "bits_per_pixel": round(8 * file.stat().st_size / 2800, 6),
        }  # fmt: skip
        assert np.array_equal(image, pixels)
    assert np.array_equal(Image.open(file, formats=["uigc"]), pixels)


@pytest.mark.parametrize("mask", ["entire", "edge", "edge_more:0.2+draw9"])
def test_saving(tiny: Codec, tmp_path: Path, mask: str) -> None:
    image, expected = Image.fromarray(PIXELS), tiny.compress(PIXELS, mask)
    image.save(tmp_path / "a.UIGC", mask=mask)
    assert (tmp_path / "a.UIGC").read_bytes() == saved(image, mask=mask) == expected
    assert saved(image, mask=mask, quality=80, optimize=True) == expected  # as with any format, others' options


def test_saving_with_other_options(tiny_path: Path, tiny: Codec) -> None:
    uigc.pillow.configure()
    image, expected = Image.fromarray(PIXELS), tiny.compress(PIXELS)
    given: list[dict[str, Any]] = [{}, {"threads": 2}, {"provider": "cpu"}, {"precision": "fp32", "read_back": True}]
    for options in given:
        assert saved(image, bundle=tiny_path, **options) == expected


def test_saving_other_modes(tiny: Codec) -> None:
    assert saved(Image.fromarray(PIXELS[..., 0])) == tiny.compress(PIXELS[..., 0])
    turned = Image.fromarray(PIXELS)
    turned.getexif()[0x0112] = 3
    assert saved(turned) == tiny.compress(PIXELS[::-1, ::-1])
    with pytest.raises(OSError, match="floating-point samples"):
        saved(Image.new("F", (8, 8)))


@pytest.mark.parametrize("background", ["white", "#ffffff", (255, 255, 255), (255, 255, 255, 255)])
def test_transparency(tiny: Codec, tmp_path: Path, background: Any) -> None:
    image = Image.new("RGBA", (20, 20), (200, 0, 0, 0))
    with pytest.raises(OSError, match="transparency, which the format does not hold; flatten it"):
        image.save(tmp_path / "a.uigc")
    assert not (tmp_path / "a.uigc").exists()
    assert saved(image, background=background) == tiny.compress(np.full((20, 20, 3), 255, np.uint8))
    with pytest.raises(OSError, match="'7' is not a colour"):
        saved(image, background=7)


def test_options_out_of_range(file: Path, tiny_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    for options, text in (({"mask": "half"}, "no mask 'half'"), ({"threads": 0}, "threads is 0")):
        with pytest.raises(ValueError, match=text) as error:
            saved(image, **options)
        assert isinstance(error.value.__cause__, errors.UsageError)
    with pytest.raises(ValueError, match="threads is 0"):
        Image.open(file).load(threads=0)
    with pytest.raises(TypeError, match="thread"):
        uigc.pillow.configure(thread=1)
    with pytest.raises(TypeError, match="folder"):
        Image.open(file).load(folder=tiny_path)
    with pytest.raises(OSError, match=r"80x40 pixels, and at most 3000") as large:
        saved(Image.new("RGB", (80, 40)), max_pixels=3000)
    assert isinstance(large.value.__cause__, errors.TooLargeError)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_hostile_files(path: Path, tiny: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are refused where their headers are, with the same sentence; those of other priors when they are loaded."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    data = path.read_bytes()
    header = capture(partial(read_header, data))
    if isinstance(header, errors.UigcError):
        with pytest.raises(UnidentifiedImageError) as refused:
            Image.open(path)
        if data.startswith(b"UIG"):
            assert str(refused.value) == str(header)
            assert type(refused.value.__cause__) is type(header)
        return
    image = Image.open(path)
    assert image.size == (header.width, header.height)
    assert header.prior_id != tiny.bundle.prior_id[:4]
    with pytest.raises(OSError, match="was written with the prior") as other:
        image.load()
    assert isinstance(other.value.__cause__, errors.PriorMismatchError)


def test_a_file_of_another_prior(file: Path, tiny_path: Path, pixels: np.ndarray) -> None:
    """After it was refused, the image may be loaded with the right bundle."""
    uigc.pillow.configure(threads=1)
    image = Image.open(file)
    ours = Bundle.load().prior_id[:4].hex()
    with pytest.raises(OSError, match=rf"written with the prior \w{{8}} and this bundle holds {ours}"):
        image.load()
    assert image.load(bundle=tiny_path) is not None
    assert np.array_equal(image, pixels)


def test_damage_behind_the_header(file: Path, tiny: Codec) -> None:
    """A payload that no encoder wrote, under a right checksum."""
    data = pack(read_header(file.read_bytes()), bytes(range(200)))
    with pytest.raises(errors.InexactError) as expected:
        tiny.decompress(data)
    with pytest.raises(OSError, match="not compute the prior exactly") as error:
        Image.open(io.BytesIO(data)).load()
    assert str(error.value) == str(expected.value)
    assert isinstance(error.value.__cause__, errors.InexactError)


def test_decompression_bombs(tiny: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack(Header(100, 50, MaskMode.EDGE, tiny.bundle.prior_id[:4]), b"")
    for limit, outcome in ((2499, Image.DecompressionBombError), (2500, Image.DecompressionBombWarning), (5000, None)):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if outcome is None:
                assert Image.open(io.BytesIO(data)).size == (100, 50)
            else:
                with pytest.raises(outcome):
                    Image.open(io.BytesIO(data))


def test_what_pillow_does_with_images(file: Path, pixels: np.ndarray) -> None:
    expected = Image.fromarray(pixels)
    small, expected_small = Image.open(file), expected.copy()
    for each in (small, expected_small):
        each.thumbnail((35, 35))
    assert np.array_equal(small, expected_small)
    assert np.array_equal(Image.open(file).crop((3, 4, 50, 30)), expected.crop((3, 4, 50, 30)))
    assert np.array_equal(Image.open(file).convert("L"), expected.convert("L"))
    for copied in (Image.open(file).copy(), copy.copy(Image.open(file)), copy.deepcopy(Image.open(file))):
        assert np.array_equal(copied, pixels)
        assert copied.info["mask"] == "edge"
    image = Image.open(file)
    image.putpixel((0, 0), (1, 2, 3))
    assert image.getpixel((0, 0)) == (1, 2, 3)
    assert [np.array_equal(frame, pixels) for frame in ImageSequence.Iterator(Image.open(file))] == [True]
    assert not image.getexif()


@pytest.mark.parametrize("load_first", [True, False])
def test_pickle(file: Path, pixels: np.ndarray, load_first: bool) -> None:
    image = Image.open(file)
    if load_first:
        image.load()
    other = pickle.loads(pickle.dumps(image))
    assert (other.format, other.info) == ("UIGC", image.info)
    assert np.array_equal(other, pixels)
    other.close()


@pytest.mark.parametrize("step", [1, 100, 1 << 20])
def test_the_incremental_parser(file: Path, pixels: np.ndarray, step: int) -> None:
    data, parser = file.read_bytes(), ImageFile.Parser()
    for begin in range(0, len(data), step):
        assert parser.image is None
        parser.feed(data[begin : begin + step])
    assert parser.image is not None
    assert parser.image.size == (70, 40)
    assert np.array_equal(parser.close(), pixels)
    with pytest.raises(OSError, match="cannot parse"), ImageFile.Parser() as cut:
        cut.feed(data[:-1])


def test_truncated_files_are_never_loaded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(UnidentifiedImageError, match="is truncated: it ends after"):
        Image.open(io.BytesIO(file.read_bytes()[:-1]))


def test_files_are_not_kept_open(file: Path, pixels: np.ndarray) -> None:
    """Thousands of images may wait to be loaded; an open file that the caller gave stays the caller's."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        images = [Image.open(file) for _ in range(3)]
        assert [image.fp is not None and image.fp.closed for image in images] == [True] * 3
        images[0].verify()
        assert np.array_equal(images[0], pixels)
        del images
    with open(file, "rb") as own:
        image = Image.open(own)
        assert np.array_equal(image, pixels)
        image.close()
        assert not own.closed
    direct = uigc.pillow.UigcImageFile(file)
    opened = direct.fp
    direct.load()
    assert getattr(opened, "closed", False)


def test_a_closed_image_says_so(file: Path, pixels: np.ndarray) -> None:
    image = Image.open(file)
    image.close()
    with pytest.raises(ValueError, match="closed image"):
        image.load()
    with Image.open(file) as other:
        pass
    assert np.array_equal(other, pixels)  # leaving a block closes files, and no images


def test_an_image_is_saved_over_its_own_file(file: Path, tiny: Codec, pixels: np.ndarray) -> None:
    Image.open(file).save(file)
    assert file.read_bytes() == tiny.compress(pixels)


def test_threads(file: Path, tiny: Codec, pixels: np.ndarray, tmp_path: Path) -> None:
    """A sequence of files, and one image, each loaded in eight threads."""
    paths = [tmp_path / f"{index}.uigc" for index in range(16)]
    for index, path in enumerate(paths):
        path.write_bytes(tiny.compress(PIXELS[: index + 1]))
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(np.asarray, [Image.open(path) for path in paths]))
        same = list(pool.map(np.asarray, [Image.open(file)] * 8))
    assert all(np.array_equal(image, tiny.decompress(path)) for image, path in zip(loaded, paths, strict=True))
    assert all(np.array_equal(image, pixels) for image in same)


def test_it_is_no_image_to_compress_unless_it_was_opened(file: Path, tiny: Codec, pixels: np.ndarray) -> None:
    with pytest.raises(errors.InputError, match="not an image that uigc opens"):
        tiny.compress(file)
    assert tiny.compress(Image.open(file)) == tiny.compress(pixels)
