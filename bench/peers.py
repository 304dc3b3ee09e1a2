"""The codecs that Pillow writes, of the image as it is or scaled down before and back to its size after."""

from __future__ import annotations

import importlib
import io
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from PIL import Image, features

from uigc.runtime.arrays import Pixels
from uigc.runtime.environment import package_version
from uigc.runtime.errors import DependencyError, UsageError
from uigc.runtime.rate_control import Rate

BEST = 100  # the largest quality
DIVISORS = (1, 2, 3, 4, 6)  # of width and height, that are tried for a file of a certain size
DEFAULTS = ("1", "10", "25", "1/2:1", "1/2:10", "1/2:25", "1/3:1", "1/3:10", "1/3:25")


@dataclass(frozen=True)
class Coded:
    """One image at one setting: the bytes of the file, and the decoded image."""

    setting: str
    data: bytes
    pixels: Pixels


@dataclass(frozen=True)
class OutOfReach:
    """A setting that is a rate to which no file of an image keeps."""

    setting: str


class BaselineCodec(ABC):
    """A codec with a list of settings."""

    name: str
    version: str
    settings: list[str]

    @abstractmethod
    def code(self, pixels: Pixels) -> Iterator[Coded | OutOfReach]:
        """The image uint8 (H, W, 3) at each setting."""


@dataclass(frozen=True)
class Quality:
    """A codec's quality, 0 to 100, of an image with its width and height divided by ``divisor``.

    Written as ``10``, and with a divisor as ``1/3:10``.
    """

    quality: int
    divisor: int = 1

    @classmethod
    def parse(cls, text: str) -> Quality:
        """Read one; raises a :class:`UsageError`."""
        match = re.fullmatch(r"(?:1/(\d+):)?(-?\d+)", text)
        if not match:
            raise UsageError(
                f"{text!r} is no setting; qualities are numbers such as 10, or 1/3:10 of an image scaled to a third, "
                "and 0.02bpp is a rate; give one."
            )
        made = cls(int(match[2]), int(match[1] or 1))
        if not 0 <= made.quality <= BEST:
            raise UsageError(f"The quality {made.quality} is not from 0 to {BEST}; give one in that range.")
        if not 1 <= made.divisor <= 16:
            raise UsageError(f"Images are scaled to 1/1 to 1/16, not to 1/{made.divisor}; give another.")
        return made

    @property
    def label(self) -> str:
        """The setting as it is written."""
        return str(self.quality) if self.divisor == 1 else f"1/{self.divisor}:{self.quality}"


def parse_rate(text: str) -> Rate | None:
    """Read a setting such as ``0.02bpp``; None for anything else."""
    match = re.fullmatch(r"([\d.]+)bpp", text)
    try:
        return Rate(bpp=float(match[1])) if match else None
    except ValueError:
        raise UsageError(f"{text!r} is no rate; one is written as 0.02bpp.") from None


class Labelled(Protocol):
    @property
    def label(self) -> str: ...


Choice = TypeVar("Choice", bound=Labelled)


def read_settings(texts: list[str], parse: Callable[[str], Choice | Rate]) -> list[tuple[str, Choice | Rate]]:
    """Return what settings ask for, each with its label: a rate, or what ``parse`` makes of the text."""
    return [(asked.label, asked) for asked in (parse_rate(text) or parse(text) for text in texts)]


@dataclass(frozen=True)
class Writer:
    """How Pillow writes a format: its name there, the options besides the quality, and the plug-in that brings it.

    ``best``: options that the largest quality needs besides.
    """

    format: str
    options: dict[str, Any]
    module: str | None = None
    package: str = "pillow"
    register: str | None = None
    best: dict[str, Any] = field(default_factory=dict)


WRITERS = {
    "avif": Writer("AVIF", {"speed": 4}),
    "heic": Writer("HEIF", {}, "pillow_heif", "pillow-heif", "register_heif_opener"),
    "jpeg": Writer("JPEG", {"optimize": True}),
    "jxl": Writer("JXL", {"effort": 7}, "pillow_jxl", "pillow-jxl-plugin", best={"lossless": True}),
    "webp": Writer("WEBP", {"method": 6}),
}


class Pillow(BaselineCodec):
    """A codec that Pillow writes; a setting is a :class:`Quality`, or a rate (see :meth:`within`)."""

    def __init__(self, name: str, settings: list[str]) -> None:
        self.name, self._writer = name, WRITERS[name]
        self._asked = read_settings(settings, Quality.parse)
        self.settings = [setting for setting, _ in self._asked]
        self.version = f"{self._writer.module or 'pillow'} {package_version(self._writer.package)}"
        if self._writer.module:
            self._load_plugin(self._writer.module)
        elif name in ("avif", "webp") and not features.check(name):
            raise DependencyError(f"This Pillow was built without {name.upper()}; install another build of it.")

    def _load_plugin(self, module: str) -> None:
        try:
            plugin = importlib.import_module(module)
        except ImportError:
            raise DependencyError(
                f"The codec {self.name!r} needs the package {self._writer.package}, which is missing; install it."
            ) from None
        if self._writer.register:
            getattr(plugin, self._writer.register)()

    def code(self, pixels: Pixels) -> Iterator[Coded | OutOfReach]:
        for setting, asked in self._asked:
            if isinstance(asked, Quality):
                yield self.at(pixels, asked)
                continue
            budget = asked.budget(*pixels.shape[:2]) or 0
            found = self.within(pixels, budget)
            yield Coded(setting, found.data, found.pixels) if found else OutOfReach(setting)

    def at(self, pixels: Pixels, quality: Quality) -> Coded:
        """Code an image uint8 (H, W, 3) at a quality; it comes back at its own size."""
        stream, image = io.BytesIO(), Image.fromarray(pixels)
        if quality.divisor > 1:
            small = (math.ceil(side / quality.divisor) for side in image.size)
            resized = image.resize((next(small), next(small)), Image.Resampling.LANCZOS)
        else:
            resized = image
        options = self._writer.options | (self._writer.best if quality.quality == BEST else {})
        resized.save(stream, self._writer.format, quality=quality.quality, **options)
        with Image.open(stream) as opened:
            back = opened.convert("RGB")
        if quality.divisor > 1:
            back = back.resize(image.size, Image.Resampling.LANCZOS)
        return Coded(quality.label, stream.getvalue(), np.array(back))

    def within(self, pixels: Pixels, budget: int) -> Coded | None:
        """Return the closest image, by PSNR, that a file of at most ``budget`` bytes holds; None if none is so small.

        Each scale of :data:`DIVISORS` is tried at its highest quality that fits.
        """
        found: list[Coded] = []
        for divisor in reversed(DIVISORS):
            fits = self._highest(pixels, divisor, budget)
            if fits is None:
                break  # larger images do not fit either
            found.append(fits)
        return min(found, key=lambda coded: _squared_error(coded.pixels, pixels), default=None)

    def _highest(self, pixels: Pixels, divisor: int, budget: int) -> Coded | None:
        """Return the file of the highest quality in the budget: steps that double, then halves between two of them."""
        best = self.at(pixels, Quality(0, divisor))
        if len(best.data) > budget:
            return None
        low, high, step = 0, BEST + 1, 4
        while high - low > 1:
            middle = min(low + step, BEST) if high > BEST else (low + high) // 2
            coded = self.at(pixels, Quality(middle, divisor))
            if len(coded.data) <= budget:
                best, low, step = coded, middle, 2 * step
            else:
                high = middle
        return best


def _squared_error(a: Pixels, b: Pixels) -> float:
    return float(np.square(a.astype(np.float32) - b).mean())
