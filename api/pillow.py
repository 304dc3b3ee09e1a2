"""Pillow opens and saves .uigc files once this module is imported (``docs/PILLOW.md``).

>>> import uigc.pillow
>>> from PIL import Image
>>> Image.open("photo.webp").save("photo.uigc", mask="edge")
>>> Image.open("photo.uigc").convert("L").show()

Opening reads a file and checks it; numpy, the codec and its graphs are loaded with the first image that is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from PIL import Image, ImageFile, UnidentifiedImageError

from uigc.runtime.errors import UigcError, UsageError
from uigc.runtime.format.bitstream import MAGIC, MAX_FILE, read_header

if TYPE_CHECKING:
    from uigc.runtime.codec import Codec

__all__ = ["UigcImageFile", "configure"]

FORMAT, SUFFIX, MIME = "UIGC", ".uigc", "image/x-uigc"
_configured: dict[str, Any] = {}


def configure(**options: Any) -> None:
    """Set the options of :class:`Codec` that Pillow loads and saves .uigc files with from now on.

    Those that are not given get the codec's defaults again. They hold for the whole process, because ``Image.open``
    takes no options; :meth:`UigcImageFile.load` and ``Image.save`` take the same ones for one image. Images with the
    same options share one codec, which is made when the first of them is loaded or saved.

    Raises a TypeError for an option that a codec does not have.
    """
    global _configured
    from uigc.runtime.shared_codec import check_names

    check_names(options)
    _configured = options


class UigcImageFile(ImageFile.ImageFile):
    """What ``Image.open`` returns for a .uigc file: an RGB image in sRGB, decoded when its pixels are first needed.

    ``info`` has the keys of ``uigc info --json`` that describe the file: ``format_version``, ``mask``, ``prior`` (the
    first 4 bytes of the prior's id, in hexadecimal) and ``bits_per_pixel``; and ``seed``, if lost tokens are drawn.
    """

    format = FORMAT
    format_description = "UIGC image at an ultra-low bitrate"
    _data: bytes | None = None  # the file, until it is decoded

    def _open(self) -> None:
        assert self.fp is not None
        data = self.fp.read(MAX_FILE + 1)
        with _errors_of_pillow(UnidentifiedImageError):  # Pillow would drop the text of the usual SyntaxError
            header = read_header(data)
        self._size, self._mode = (header.width, header.height), "RGB"
        self.tile = []  # none: no decoder of Pillow's can be fed with the data as it comes in
        self.info |= {
            "format_version": header.version,
            "mask": header.mode.label,
            "prior": header.prior_id.hex(),
            "bits_per_pixel": round(8 * len(data) / (header.width * header.height), 6),
        }
        if header.seed is not None:
            self.info["seed"] = header.seed
        self._data = data

    def load(self, **options: Any) -> Any:
        """Decode the image, unless it is decoded already, and return Pillow's access to its pixels.

        ``options``: those of :class:`Codec`, such as ``bundle`` for a file of another prior; the ones that are not
        given are those of :func:`configure`.

        Raises an :class:`OSError` with the reason if the file cannot be decoded, and a :class:`ValueError` if an option
        is out of range; the ``__cause__`` of both is the :class:`UigcError`.
        """
        data = self._data
        if data is not None:
            with _errors_of_pillow(OSError):
                pixels = _codec(options).decompress(data)
            self.im = Image.fromarray(pixels).im
            self.readonly = 0
            if self._exclusive_fp and self.fp is not None:
                self.fp.close()
            self.fp = self._data = None
        return super().load()

    def close(self) -> None:
        """Free the image, as of any format."""
        self._data = None
        super().close()


@contextmanager
def _errors_of_pillow(kind: type[OSError]) -> Iterator[None]:
    """Raise an error of the codec as one that callers of Pillow catch, with the same text."""
    try:
        yield
    except UsageError as error:
        raise ValueError(str(error)) from error
    except UigcError as error:
        raise kind(str(error)) from error


def _codec(options: dict[str, Any]) -> Codec:
    from uigc.runtime.shared_codec import shared_codec

    return shared_codec(**{**_configured, **options})


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _opened(file: IO[bytes], filename: str | bytes) -> UigcImageFile:
    image = UigcImageFile(file, filename)
    if filename:  # it was opened by Pillow, which keeps it open until its image is loaded: too many of them at a time
        file.close()
    return image


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Write an image, as ``Image.save`` asks for it; as with any format, options of other formats are passed over."""
    from uigc.runtime.io.image import Reading, to_srgb
    from uigc.runtime.shared_codec import OPTIONS

    given = image.encoderinfo
    with _errors_of_pillow(OSError):
        codec = _codec({name: given[name] for name in OPTIONS if name in given})
        codec.limits.check(*image.size)
        pixels = to_srgb(image, Reading(background=_colour_name(given.get("background"))))
        chosen = {name: given[name] for name in ("mask", "bpp", "size") if given.get(name) is not None}
        if not chosen and given.get("quality") is not None:  # many formats have one, so what is ours comes first
            chosen["quality"] = given["quality"]
        if given.get("effort") is not None:
            chosen["effort"] = given["effort"]
        file.write(codec.compress(pixels, **chosen))


def _colour_name(colour: Any) -> str | None:
    """Return the text for a colour, which callers of Pillow give as numbers, too."""
    if isinstance(colour, tuple | list):
        return f"rgb({','.join(map(str, colour[:3]))})"
    return None if colour is None else str(colour)


Image.register_open(FORMAT, _opened, _accept)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, SUFFIX)
Image.register_mime(FORMAT, MIME)
