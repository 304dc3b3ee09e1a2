"""What callers of the library give: images and files as paths, buffers, file objects, PIL images and arrays."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Pixels
from uigc.runtime.errors import InputError
from uigc.runtime.io import files

if TYPE_CHECKING:
    from PIL.Image import Image


class ArrayLike(Protocol):
    """An object that numpy reads as an array, such as a torch tensor on a CPU."""

    def __array__(self, *arguments: Any, **options: Any) -> NDArray[Any]:
        """Return the array."""


Data = bytes | bytearray | memoryview | NDArray[np.uint8] | str | os.PathLike[str] | BinaryIO
"""The bytes of a file: any buffer of bytes, a path, or a binary file that is open for reading."""
AnyImage: TypeAlias = "Pixels | ArrayLike | Data | Image"
"""An image: an array uint8 (H, W, 3), (H, W, 1) or (H, W), a PIL image, or an encoded image as :data:`Data`."""
CheckSize = Callable[[int, int], None]
"""Called with width and height; raises an error if they are too large."""


def read_data(source: Data, largest: int) -> bytes:
    """Return the bytes that ``source`` holds; of a path or a file object, at most ``largest`` and one."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        return files.read(os.path.join(os.curdir, name) if name == files.STREAM else name, largest)
    if hasattr(source, "read"):
        return _read_open(source, largest)
    buffer: Any = source  # typing knows that arrays are buffers from Python 3.12 on
    try:
        view = memoryview(buffer)
        if view.itemsize == 1:
            return view.tobytes()
    except (BufferError, TypeError, ValueError):
        pass
    raise InputError(
        f"An object of type {type(source).__name__} does not hold the bytes of a file; give a buffer of bytes, a path, "
        "or a file that is open for reading bytes."
    )


def _read_open(file: Any, largest: int) -> bytes:
    try:
        data = file.read(largest + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"The open file cannot be read ({error}); check it.") from None
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InputError(
            f"The open file gives {type(data).__name__} and bytes are needed; open it in binary mode ('rb')."
        )
    return bytes(data)


def as_pixels(image: AnyImage, check_size: CheckSize) -> Pixels:
    """Return an image as uint8 (H, W, 3) sRGB; see :data:`AnyImage`.

    Grey is repeated for the three channels. ``check_size`` is called with width and height before any work.
    """
    if not isinstance(image, np.ndarray):
        from PIL.Image import Image

        from uigc.runtime.io.image import read, to_srgb

        if isinstance(image, Image):
            check_size(*image.size)
            return to_srgb(image)
        if not hasattr(image, "__array__"):
            return read(_encoded(image), check_size=check_size)
        return _of_array(_as_array(image), check_size)
    return _of_array(image, check_size)


def _of_array(image: NDArray[Any], check_size: CheckSize) -> Pixels:
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise InputError(
            f"An array of {image.dtype} {image.shape} is not an image; give uint8 (height, width, 3) in sRGB, or uint8 "
            "(height, width) for grey."
        )
    check_size(image.shape[1], image.shape[0])
    if image.ndim == 2:
        image = image[..., None]
    return image if image.shape[2] == 3 else np.repeat(image, 3, axis=2)


def _encoded(image: Any) -> bytes:
    readable = isinstance(image, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(image, "read")
    if not readable:
        raise InputError(
            f"An object of type {type(image).__name__} is not an image; give a PIL image, an array uint8 (height, "
            "width, 3) in sRGB, or an encoded image as a path, bytes or a file that is open for reading bytes."
        )
    data = read_data(image, files.LARGEST)
    if len(data) > files.LARGEST:
        raise InputError(f"The image has more than {files.LARGEST} bytes, and an image has fewer; check it.")
    return data


def _as_array(image: Any) -> NDArray[Any]:
    try:
        return np.asarray(image)
    except Exception as error:  # whatever a foreign object raises, such as a tensor on a GPU
        reason = " ".join(str(error).split())
        raise InputError(
            f"An object of type {type(image).__name__} cannot be read as an array ({reason}); give a numpy array."
        ) from error
