"""Finding images: in folders, and in tar files, in which large collections are distributed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from uigc.runtime.errors import InputError

SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".avifs", ".tif", ".tiff", ".bmp",
    ".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".tga",
    ".icb", ".vda", ".vst", ".heic", ".heics", ".heif", ".heifs", ".hif", ".jxl",
)  # fmt: skip
"""Suffixes of the formats that ``image.FORMATS`` lists, whether or not a plug-in that some need is installed."""
HELD_OUT_SHARE = 0.02  # of all images, kept from training


@dataclass(frozen=True)
class Source:
    """The place of an image: ``size`` bytes of the file ``path`` from ``offset`` on."""

    name: str
    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """Read the bytes of the image file."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def images_in(folder: Path) -> list[Path]:
    """Return the images of a folder, sorted by name; a folder without images is refused."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not found:
        raise InputError(f"There is no image in {folder}; give a folder of images.")
    return found


def sources(place: Path) -> Iterator[Source]:
    """Yield every image below a folder and in its uncompressed tar files, or in one tar file, in a stable order."""
    for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
        suffix = path.suffix.lower()
        if suffix == ".tar":
            import tarfile  # which imports several other modules, and is not needed by most programs

            try:
                with tarfile.open(path, "r:") as archive:
                    for member in archive.getmembers():
                        if member.isfile() and Path(member.name).suffix.lower() in SUFFIXES:
                            yield Source(Path(member.name).name, path, member.offset_data, member.size)
            except (OSError, tarfile.TarError) as error:
                raise InputError(f"{path} is not a readable tar file ({error}); check it.") from None
        elif suffix in SUFFIXES and path.is_file():
            yield Source(path.name, path, 0, path.stat().st_size)


def is_held_out(name: str) -> bool:
    """Return whether an image is kept from training; its name alone decides, so that it never changes sides."""
    return zlib.crc32(name.encode()) % 1000 < 1000 * HELD_OUT_SHARE
