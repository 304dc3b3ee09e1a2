"""No image takes memory before its size is checked, or holds another size than the one that was checked."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from uigc.fuzz.corpus import CORPUS
from uigc.runtime.errors import InputError, TooLargeError
from uigc.runtime.format.bitstream import check_size
from uigc.runtime.io import image
from uigc.runtime.io.extents import stated_sizes
from uigc.runtime.io.image import Reading

SIZES = [(1, 1), (8, 8), (16, 24), (257, 3), (640, 480), (1000, 500), (9000, 2)]
# The begin of JPEG XL files that libjxl wrote: codestreams, and a container.
JPEG_XL = {
    "ff0a4f060013880200d800b59f200000": (64, 64),
    "ff0afaf919001388020090009ee0099e": (8000, 8000),
}


def encoded(size: tuple[int, int], format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, format_name, **options)
    return buffer.getvalue()


def small(width: int, height: int) -> None:
    check_size(width, height, 1 << 20)


@pytest.mark.parametrize("size", SIZES)
def test_sizes_of_gif(size: tuple[int, int]) -> None:
    frames = {"save_all": True, "append_images": [Image.new("RGB", size, "red")]}
    assert list(stated_sizes(encoded(size, "GIF"))) == [size]
    assert set(stated_sizes(encoded(size, "GIF", **frames))) == {size}
    assert list(stated_sizes(encoded(size, "PNG"))) == []


@pytest.mark.parametrize("size", SIZES)
def test_sizes_of_jpeg_xl(size: tuple[int, int]) -> None:
    pytest.importorskip("pillow_jxl")
    exif = Image.Exif()
    exif[0x0112] = 1
    for options in ({}, {"lossless": True}, {"exif": exif.tobytes()}):
        assert list(stated_sizes(encoded(size, "JXL", **options))) == [size]


@pytest.mark.parametrize(("begin", "size"), JPEG_XL.items())
def test_sizes_of_jpeg_xl_as_written_by_libjxl(begin: str, size: tuple[int, int]) -> None:
    codestream = bytes.fromhex(begin)
    boxes = [(b"JXL ", b"\r\n\x87\n"), (b"ftyp", b"jxl \0\0\0\0jxl ")]
    whole, part = [*boxes, (b"jxlc", codestream)], [*boxes, (b"jxlp", b"\0\0\0\0" + codestream)]
    for container in (whole, part):
        file = b"".join((8 + len(content)).to_bytes(4, "big") + name + content for name, content in container)
        assert list(stated_sizes(file)) == [size]
    assert list(stated_sizes(codestream)) == [size]
    assert list(stated_sizes(codestream[:3])) == []


GIF = (CORPUS / "image" / "frame-beyond-canvas.gif").read_bytes()  # 92 bytes for which Pillow took 1.6 GB


@pytest.mark.parametrize("data", [*map(bytes.fromhex, JPEG_XL), GIF])
def test_they_are_checked_before_anything_is_opened(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *arguments, **options: pytest.fail("opened before the check"))
    with pytest.raises(TooLargeError):
        image.read(data, Reading(page=0), lambda width, height: check_size(width, height, 100))


def test_a_page_is_checked_like_the_first() -> None:
    data = encoded((9, 9), "TIFF", save_all=True, append_images=[Image.new("1", (2000, 2000))])
    assert image.read(data, Reading(page=0), small).shape == (9, 9, 3)
    with pytest.raises(TooLargeError, match="2000x2000"):
        image.read(data, Reading(page=1), small)


def test_an_image_that_holds_more_than_it_states(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded((18, 27), "BMP")

    def growing(self: Image.Image) -> None:
        self._size = (64, 27)

    monkeypatch.setattr(Image.OPEN["BMP"][0], "load", growing)
    with pytest.raises(InputError, match="states 18x27 pixels and holds 64x27"):
        image.read(data, None, small)


def test_heic_that_holds_more_than_it_states() -> None:
    pytest.importorskip("pillow_heif")
    with pytest.raises(InputError, match="states 27x18 pixels and holds 64x18"):
        image.read((CORPUS / "image" / "holds-more-than-stated.heif").read_bytes(), None, small)
