"""Whatever callers give as an image or as a file: the same pixels and bytes, or one sentence."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uigc.runtime.arrays import Pixels
from uigc.runtime.codec import Codec
from uigc.runtime.errors import InputError, TooLargeError, UigcError
from uigc.runtime.io import files
from uigc.runtime.io.inputs import as_pixels, read_data
from uigc.runtime.outcomes import capture

PIXELS = np.random.default_rng(2).integers(0, 256, (20, 33, 3), np.uint8)
GREY = PIXELS[..., 0]


class Foreign:
    """An object that numpy can read, and nothing else."""

    def __init__(self, array: np.ndarray | None) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.array is None:
            raise RuntimeError("it lies\non a GPU")
        return self.array


def png(pixels: Pixels = PIXELS) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def any_size(width: int, height: int) -> None:
    assert (width, height) == (33, 20)


IMAGES: dict[str, Callable[[], Any]] = {
    "array": lambda: PIXELS,
    "view": lambda: PIXELS[::-1, ::-1][::-1, ::-1],
    "foreign": lambda: Foreign(PIXELS),
    "PIL": lambda: Image.fromarray(PIXELS),
    "bytes": png,
    "bytearray": lambda: bytearray(png()),
    "memoryview": lambda: memoryview(png()),
    "file": lambda: io.BytesIO(png()),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_of_every_kind(kind: str) -> None:
    found = as_pixels(IMAGES[kind](), any_size)
    assert found.dtype == np.uint8
    assert np.array_equal(found, PIXELS)


def test_images_at_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("image.png", "-"):  # which is standard input on the command line alone
        Path(name).write_bytes(png())
        assert np.array_equal(as_pixels(name, any_size), PIXELS)
        assert np.array_equal(as_pixels(tmp_path / name, any_size), PIXELS)
    with pytest.raises(InputError, match=r"absent\.png cannot be read"):
        as_pixels("absent.png", any_size)


def test_grey_is_repeated() -> None:
    expected = np.stack([GREY] * 3, axis=-1)
    for image in (GREY, GREY[..., None], Foreign(GREY), Image.fromarray(GREY), png(GREY)):
        assert np.array_equal(as_pixels(image, any_size), expected)


def test_a_tensor() -> None:
    torch = pytest.importorskip("torch")
    assert np.array_equal(as_pixels(torch.from_numpy(PIXELS), any_size), PIXELS)
    with pytest.raises(InputError, match=r"array of float32 \(20, 33, 3\) is not an image; give uint8"):
        as_pixels(torch.from_numpy(PIXELS).float(), any_size)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (PIXELS.astype(np.float32), r"array of float32 \(20, 33, 3\) is not an image; give uint8 \(height, width, 3\)"),
        (PIXELS.transpose(2, 0, 1), r"uint8 \(3, 20, 33\) is not"),
        (PIXELS[None], r"uint8 \(1, 20, 33, 3\) is not"),
        (np.zeros((2, 2, 4), np.uint8), r"uint8 \(2, 2, 4\) is not"),
        (np.zeros((2, 2), bool), r"bool \(2, 2\) is not"),
        (Foreign(None), r"Foreign cannot be read as an array \(it lies on a GPU\); give a numpy array"),
        (None, "NoneType is not an image; give a PIL image, an array"),
        (7, "int is not an image"),
        ([[1]], "list is not an image"),
        (io.StringIO("text"), r"gives str and bytes are needed; open it in binary mode \('rb'\)"),
        (b"text", "not an image that uigc opens"),
        (b"", "is empty"),
    ],
)
def test_what_is_no_image(image: Any, text: str) -> None:
    with pytest.raises(InputError, match=text) as error:
        as_pixels(image, lambda width, height: None)
    assert "--" not in str(error.value)


def test_sizes_are_checked_before_any_work() -> None:
    def small(width: int, height: int) -> None:
        raise TooLargeError("too large")

    for kind, image in IMAGES.items():
        assert isinstance(capture(partial(as_pixels, image(), small)), TooLargeError), kind


def test_files_of_every_kind(tiny: Codec, tmp_path: Path) -> None:
    data = tiny.compress(PIXELS)
    expected, tokens = tiny.decompress(data), tiny.decode_tokens(data)
    (tmp_path / "x.uigc").write_bytes(data)
    array = np.frombuffer(data, np.uint8)
    strided = np.repeat(array, 2)[::2]
    given = [bytearray(data), memoryview(data), array, strided, io.BytesIO(data), tmp_path / "x.uigc"]
    given.append(str(tmp_path / "x.uigc"))
    for file in given:
        if not isinstance(file, io.BytesIO):
            assert np.array_equal(tiny.decode_tokens(file), tokens)
        assert np.array_equal(tiny.decompress(file), expected)
    found = list(tiny.decompress_many([data, tmp_path / "absent.uigc", None, tmp_path / "x.uigc"]))  # type: ignore[list-item]
    assert [isinstance(outcome, UigcError) for outcome in found] == [False, True, True, False]
    assert list(tiny.compress_many([PIXELS, io.BytesIO(png())])) == [data, data]


def test_what_holds_no_file(tmp_path: Path) -> None:
    closed = io.BytesIO(b"UIG")
    closed.close()
    cases: list[tuple[Any, str]] = [
        (None, "NoneType does not hold the bytes of a file; give a buffer of bytes, a path"),
        (np.zeros(4, np.int32), "ndarray does not hold"),
        (io.StringIO("x"), "gives str"),
        (closed, "cannot be read"),
        (tmp_path, "cannot be read"),
    ]
    for source, text in cases:
        with pytest.raises(InputError, match=text):
            read_data(source, 100)


def test_no_more_is_read_than_a_file_may_have() -> None:
    endless = open("/dev/zero", "rb")  # noqa: SIM115
    with endless:
        assert len(read_data(endless, 1000)) == 1001
    assert len(read_data("/dev/zero", 1000)) == 1001


def test_an_image_file_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST", 10)
    with pytest.raises(InputError, match="more than 10 bytes"):
        as_pixels(io.BytesIO(png()), any_size)
