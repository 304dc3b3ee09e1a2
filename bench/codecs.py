"""The codecs that ``uigc evaluate`` can put side by side: ours, and those that Pillow writes.

Each codes an image at all of its settings, so that what the settings share is computed once.
"""

from __future__ import annotations

import importlib.metadata
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from uigc.runtime.arrays import Pixels
from uigc.runtime.codec import Codec
from uigc.runtime.environment import package_version
from uigc.runtime.errors import DependencyError, UsageError
from uigc.runtime.format.mask import Mask
from uigc.runtime.format.mask_mode import MaskMode


@dataclass(frozen=True)
class Coded:
    """One image at one setting: the bytes of the file, and the decoded image."""

    setting: str
    data: bytes
    pixels: Pixels


class BaselineCodec(ABC):
    """A codec with a list of settings."""

    name: str
    version: str
    settings: list[str]

    @abstractmethod
    def code(self, pixels: Pixels) -> Iterator[Coded]:
        """The image uint8 (H, W, 3) at each setting."""


class Uigc(BaselineCodec):
    """uigc; a setting is a mask. It also counts the bits that the prior costs (see :meth:`prior_figures`)."""

    name = "uigc"

    def __init__(self, codec: Codec, masks: list[str]) -> None:
        self.codec, self.settings, self.version = codec, masks, package_version("uigc") or "not installed"
        self.tokens: list[NDArray[np.int32]] = []
        self.costs: list[list[tuple[int, float]]] = []

    def code(self, pixels: Pixels) -> Iterator[Coded]:
        tokens = self.codec.tokenize(pixels)
        costs = self.codec.token_codec.prior.cost(tokens, np.ones(tokens.shape, bool))
        for mask in self.settings:
            data = self.codec.encode_tokens(tokens, pixels, mask).data
            yield Coded(mask, data, self.codec.decompress(data))
        self.tokens.append(tokens.ravel())  # at the end: an image that fails does not count
        self.costs.append(costs)

    def prior_figures(self) -> dict[str, object]:
        """Return bits per token over all images coded so far, with every token sent, beside the entropies without a
        prior.
        """
        from uigc.bench.metrics import order0

        tokens, stages = np.concatenate(self.tokens), np.array(self.costs).sum(axis=0)
        return {
            "id": self.codec.bundle.prior_id.hex(),
            "fixed_bits_per_token": round(float(np.log2(self.codec.bundle.codebook)), 4),
            "order0_bits_per_token": round(order0(tokens), 4),
            "bits_per_token": round(float(stages[:, 1].sum() / stages[:, 0].sum()), 4),
            "stage_bits_per_token": [round(float(bits / count), 4) for count, bits in stages],
            "words": self.codec.bundle.codebook,
            "words_used": len(np.unique(tokens)),
        }


# Pillow's name of each format, what it is written with besides the quality, and whether a plugin brings it.
_PILLOW: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "avif": ("AVIF", {"speed": 4}, None),
    "jpeg": ("JPEG", {"optimize": True}, None),
    "jxl": ("JXL", {"effort": 7}, "pillow_jxl"),
    "webp": ("WEBP", {"method": 6}, None),
}
NAMES = ("uigc", *_PILLOW)


class Pillow(BaselineCodec):
    """A codec that Pillow writes; a setting is its quality."""

    def __init__(self, name: str, qualities: list[int]) -> None:
        self.name, self.settings = name, [str(quality) for quality in qualities]
        self._format, self._options, plugin = _PILLOW[name]
        if plugin:
            try:
                __import__(plugin)
            except ImportError:
                raise DependencyError(
                    f"The codec {name!r} needs the package pillow-jxl-plugin, which is missing; install it."
                ) from None
            self.version = f"{plugin} {importlib.metadata.version('pillow-jxl-plugin')}"
            return
        if name in ("avif", "webp") and not features.check(name):
            raise DependencyError(f"This Pillow was built without {name.upper()}; install another build of it.")
        self.version = f"pillow {package_version('pillow')}"

    def code(self, pixels: Pixels) -> Iterator[Coded]:
        for quality in self.settings:
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, self._format, quality=int(quality), **self._options)
            with Image.open(stream) as back:
                yield Coded(quality, stream.getvalue(), np.array(back.convert("RGB")))


def create(name: str, settings: list[str] | None, codec: Codec | None) -> BaselineCodec:
    """Return the codec of a name; ``settings``: masks of uigc, qualities of others, None for a default choice."""
    if name == "uigc":
        assert codec is not None
        masks = settings or [mode.label for mode in MaskMode]
        return Uigc(codec, [Mask.parse(mask).label for mask in masks])
    try:
        qualities = [int(setting) for setting in settings or ("1", "10", "25")]
    except ValueError:
        raise UsageError(f"Qualities of {name} are numbers, not {' '.join(settings or [])}; give some.") from None
    if any(not 0 <= quality <= 100 for quality in qualities):
        raise UsageError(f"A quality of {name} is a number from 0 to 100; give one in that range.")
    return Pillow(name, qualities)
