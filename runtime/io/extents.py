"""Sizes that an image states, read before it is opened: of the formats whose readers take memory on opening.

Pillow makes room for a GIF's first frame, and the plug-in for JPEG XL decodes the image.
"""

from __future__ import annotations

from collections.abc import Iterator

Size = tuple[int, int]
"""Width and height in pixels."""
_RATIOS = (None, (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Width to height of a JPEG XL image, by the three bits of its header that say so."""


def stated_sizes(data: bytes) -> Iterator[Size]:
    """Yield the sizes of a GIF's frames, or that of a JPEG XL image; nothing for other formats and damaged headers."""
    try:
        if data.startswith((b"GIF87a", b"GIF89a")):
            yield from _of_gif(data)
        elif data.startswith(b"\xff\x0a"):
            yield _of_jpeg_xl(data)
        elif data.startswith(b"\0\0\0\x0cJXL "):
            yield from (_of_jpeg_xl(stream) for stream in _codestreams(data))
    except IndexError:  # it ends early, which whatever reads it will notice
        return


def _word(data: bytes, position: int) -> int:
    return data[position] | data[position + 1] << 8


def _of_gif(data: bytes) -> Iterator[Size]:
    """Yield the canvas after each frame (GIF89a specification): a frame that reaches beyond it makes it larger."""
    width, height = _word(data, 6), _word(data, 8)
    position = 13 + _colours(data[10])
    while (kind := data[position]) != 0x3B:
        if kind == 0x2C:
            left, top, wide, tall = (_word(data, position + offset) for offset in (1, 3, 5, 7))
            width, height = max(width, left + wide), max(height, top + tall)
            yield width, height
            position += 11 + _colours(data[position + 9])
        elif kind == 0x21:
            position += 2
        else:  # Pillow looks on for the next block
            position += 1
            continue
        while data[position]:
            position += data[position] + 1
        position += 1


def _colours(flags: int) -> int:
    """Return the bytes of a colour table by the flags of what it belongs to."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _codestreams(data: bytes) -> Iterator[bytes]:
    """Yield what may be the begin of the codestream in a container's boxes (ISO/IEC 18181-2)."""
    position = 0
    while position + 8 <= len(data):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        head = 8
        if length == 1:
            length, head = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        begin = position + head + (4 if kind == b"jxlp" else 0)
        if kind in (b"jxlc", b"jxlp") and data[begin : begin + 2] == b"\xff\x0a":
            yield data[begin : begin + 64]
        if length < head:
            return
        position += length


class _Bits:
    """Reads numbers from bytes, least significant bit first."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "little"), 8 * len(data)

    def read(self, count: int) -> int:
        if count > self.left:
            raise IndexError
        found = self.value & (1 << count) - 1
        self.value, self.left = self.value >> count, self.left - count
        return found


def _of_jpeg_xl(codestream: bytes) -> Size:
    """Read the size header of a codestream (ISO/IEC 18181-1)."""
    bits = _Bits(codestream[2:34])
    small = bits.read(1)

    def side() -> int:
        return 8 * (bits.read(5) + 1) if small else bits.read((9, 13, 18, 30)[bits.read(2)]) + 1

    height, ratio = side(), _RATIOS[bits.read(3)]
    return (height * ratio[0] // ratio[1] if ratio else side()), height
