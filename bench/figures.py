"""What ``uigc evaluate`` wrote, read back: the figures of each image, and curves of rate against quality.

``docs/EVALUATION.md`` describes the JSON. Figures that an older file lacks count as not measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uigc.runtime.errors import InputError

SCHEMA = 1
LABELS = {"avif": "AVIF", "heic": "HEIC", "jpeg": "JPEG", "jxl": "JPEG XL", "uigc": "uigc", "webp": "WebP"}


@dataclass(frozen=True)
class Figure:
    """A measure of quality: its name in the JSON, its name for readers, and whether higher values are better."""

    name: str
    label: str
    higher: bool
    digits: int

    def better(self, a: float, b: float) -> bool:
        """Return whether ``a`` is better than ``b``."""
        return a > b if self.higher else a < b

    def show(self, value: float | None) -> str:
        """Return a value as text, and a dash for none."""
        return "-" if value is None else f"{value:.{self.digits}f}"


QUALITY = (
    Figure("lpips_alex", "LPIPS (AlexNet)", False, 3),
    Figure("dists", "DISTS", False, 3),
    Figure("lpips_vgg", "LPIPS (VGG)", False, 3),
    Figure("ms_ssim", "MS-SSIM", True, 3),
    Figure("psnr", "PSNR, dB", True, 2),
)


@dataclass(frozen=True)
class Point:
    """One setting on a curve: its rate in bits per pixel, and the mean of one figure."""

    setting: str
    bpp: float
    value: float


@dataclass(frozen=True)
class Evaluation:
    """One file: a codec on a set of images. ``entries`` as in the JSON, one for each setting."""

    path: Path
    codec: str
    result: dict[str, Any]
    entries: list[dict[str, Any]]
    label: str

    @property
    def pictures(self) -> list[str]:
        """The names of the images, sorted."""
        return sorted(record["picture"] for record in self.entries[0]["pictures"])

    def points(self, figure: Figure) -> list[Point]:
        """Return the settings at which a figure was measured, by rising rate."""
        found = [
            Point(entry["setting"], entry["means"]["bpp"], entry["means"][figure.name])
            for entry in self.entries
            if entry["means"].get(figure.name) is not None
        ]
        return sorted(found, key=lambda point: point.bpp)


def frontier(points: Iterable[Point], figure: Figure) -> list[Point]:
    """Return the points that no other beats at an equal or a lower rate, by rising rate: rates and values both rise."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.bpp, -point.value if figure.higher else point.value)):
        if not kept or figure.better(point.value, kept[-1].value):
            kept.append(point)
    return kept


def read(path: Path) -> Evaluation:
    """Read one file; raises an :class:`InputError` if it is not one of ``uigc evaluate``."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the name.") from None
    except ValueError:
        raise InputError(f"{path} is not JSON; give a file that 'uigc evaluate --json' wrote.") from None
    if not isinstance(result, dict) or not isinstance(result.get("entries"), list) or not result["entries"]:
        raise InputError(f"{path} has no entries; give a file that 'uigc evaluate --json' wrote.")
    if result.get("schema") != SCHEMA:
        raise InputError(f"{path} has schema {result.get('schema')}, and {SCHEMA} is read; measure it again.")
    entries = result["entries"]
    try:
        codecs = {entry["codec"] for entry in entries}
        for entry in entries:
            _ = entry["setting"], entry["means"]["bpp"], [record["bytes"] for record in entry["pictures"]]
    except (KeyError, TypeError):
        raise InputError(f"{path} lacks figures; give a file that 'uigc evaluate --json' wrote.") from None
    if len(codecs) != 1:
        raise InputError(f"{path} is of {len(codecs)} codecs, and one was expected; measure each into its own file.")
    (codec,) = codecs
    effort = result.get("effort") or 1  # none of other codecs, and of files that earlier versions measured
    label = LABELS.get(codec, codec) + (f", effort {effort}" if effort != 1 else "")
    return Evaluation(path, codec, result, entries, label)


def read_all(paths: Sequence[Path]) -> list[Evaluation]:
    """Read files of one set of images; those of one codec are told apart by the names of their files."""
    found = [read(path) for path in paths]
    for other in found[1:]:
        if other.pictures != found[0].pictures:
            raise InputError(
                f"{other.path} is of {len(other.pictures)} images and {found[0].path} of {len(found[0].pictures)}, not "
                "all of them the same; measure all codecs on one folder."
            )
    codecs = [each.codec for each in found]
    return [
        Evaluation(each.path, each.codec, each.result, each.entries, f"{each.label} ({each.path.stem})")
        if codecs.count(each.codec) > 1
        else each
        for each in found
    ]
