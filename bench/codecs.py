"""The codecs that ``uigc evaluate`` can put side by side: ours, and those that Pillow writes (``peers.py``).

Each codes an image at all of its settings, so that what the settings share is computed once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from uigc.bench.peers import DEFAULTS, WRITERS, BaselineCodec, Coded, OutOfReach, Pillow, read_settings
from uigc.runtime.arrays import Pixels
from uigc.runtime.codec import Codec
from uigc.runtime.environment import package_version
from uigc.runtime.errors import OutOfReachError, UsageError
from uigc.runtime.format.mask import Mask
from uigc.runtime.format.mask_mode import MaskMode
from uigc.runtime.rate_control import Rate


class Uigc(BaselineCodec):
    """uigc; a setting is a mask, a rate as in ``0.02bpp``, or a quality 0 to 100 as in ``q50``.

    It also counts the bits that the prior costs (see :meth:`prior_figures`).
    """

    name = "uigc"

    def __init__(self, codec: Codec, settings: list[str], effort: int = 1) -> None:
        self.codec, self.version = codec, package_version("uigc") or "not installed"
        self._asked = [
            (label, replace(asked, effort=effort)) for label, asked in read_settings(settings, _mask_or_quality)
        ]
        self.settings = [setting for setting, _ in self._asked]
        self.tokens: list[NDArray[np.int32]] = []
        self.costs: list[list[tuple[int, float]]] = []

    def code(self, pixels: Pixels) -> Iterator[Coded | OutOfReach]:
        tokens = self.codec.tokenize(pixels)
        costs = self.codec.token_codec.prior.cost(tokens, np.ones(tokens.shape, bool))
        for setting, asked in self._asked:
            try:
                data = self.codec.encode_tokens(tokens, pixels, asked).data
            except OutOfReachError:
                yield OutOfReach(setting)
                continue
            yield Coded(setting, data, self.codec.decompress(data))
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


def _mask_or_quality(text: str) -> Mask | Rate:
    """Read a setting of uigc that is no rate in bits per pixel."""
    match = re.fullmatch(r"q(\d+(?:\.\d+)?)", text)
    if match:
        return Rate(quality=float(match[1]))
    if text.startswith(tuple(mode.label for mode in MaskMode)):
        return Mask.parse(text)
    raise UsageError(
        f"{text!r} is no setting of uigc; settings are masks such as edge_more:0.2, qualities such as q50 and rates "
        "such as 0.02bpp; give one."
    )


NAMES = ("uigc", *WRITERS)


def create(name: str, settings: list[str] | None, codec: Codec | None, effort: int = 1) -> BaselineCodec:
    """Return the codec of a name; ``settings``: masks of uigc, qualities of others, rates; None for some.

    ``effort``: of uigc, where there is something to search for.
    """
    if name == "uigc":
        assert codec is not None
        return Uigc(codec, settings or [mode.label for mode in MaskMode], effort)
    return Pillow(name, list(settings or DEFAULTS))
