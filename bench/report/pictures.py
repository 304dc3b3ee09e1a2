"""An image as it was, as ours and as a peer's at equal or fewer bytes."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from uigc.bench.evaluate import Record, Yardstick
from uigc.bench.peers import DIVISORS, Coded, Pillow, Quality
from uigc.runtime import rate_control
from uigc.runtime.arrays import Pixels
from uigc.runtime.codec import DEFAULT_MASK, Codec
from uigc.runtime.io import files, image

SHOWN = 90  # quality of the WebP that the page holds, of originals and decoded images alike
_SIZES = {1: "full size", 2: "half size, scaled back", 3: "a third of the size, scaled back"}


@dataclass(frozen=True)
class Version:
    """One image of a comparison. ``role``: original, ours or peer; ``how``: what it was made with; ``source``: a data
    URL.
    """

    role: str
    how: str
    record: Record | None
    source: str


@dataclass(frozen=True)
class Comparison:
    """An image of a certain size in pixels, in three versions."""

    name: str
    width: int
    height: int
    versions: list[Version]


class Maker:
    """Makes comparisons. ``options`` choose our mask or rate; ``networks`` measure LPIPS and DISTS, if not None."""

    def __init__(self, codec: Codec, options: dict[str, Any], peer: str, networks: Path | None) -> None:
        self._codec, self._choice = codec, rate_control.choose(default=DEFAULT_MASK, **options)
        self._peer, self._yardstick = Pillow(peer, []), Yardstick(networks)
        asked = {name: value for name, value in options.items() if value is not None and name != "effort"}
        ((name, value),) = asked.items() or [("mask", DEFAULT_MASK)]
        effort = "" if self._choice.effort == 1 else f", effort {self._choice.effort}"
        self._ours = str(value), f"{name} {value}{effort}, prior {codec.bundle.prior_id.hex()[:8]}"

    def compare(self, path: Path) -> Comparison:
        """Return the comparison of one image."""
        pixels = image.read(files.read_image(str(path)), None, self._codec.limits.check)
        data = self._codec.encode(pixels, self._choice).data
        setting, how = self._ours
        ours = Coded(setting, data, self._codec.decompress(data))
        peer, how_peer = self._at_equal_bytes(pixels, len(data))
        height, width = pixels.shape[:2]
        versions = [
            Version("original", f"{width}x{height} pixels", None, data_url(pixels)),
            Version("ours", how, *self._seen(path, pixels, ours)),
            Version("peer", how_peer, *self._seen(path, pixels, peer)),
        ]
        return Comparison(path.stem, width, height, versions)

    def _seen(self, path: Path, pixels: Pixels, coded: Coded) -> tuple[Record, str]:
        return self._yardstick.measure(path.name, pixels, coded), data_url(coded.pixels)

    def _at_equal_bytes(self, pixels: Pixels, budget: int) -> tuple[Coded, str]:
        """Return the peer's best image in the budget, or in its smallest file, and how it was made."""
        found = self._peer.within(pixels, budget)
        coded = found or self._peer.at(pixels, Quality(0, DIVISORS[-1]))
        setting = Quality.parse(coded.setting)
        size = _SIZES.get(setting.divisor, f"1/{setting.divisor} of the size, scaled back")
        return coded, f"{size}, quality {setting.quality}" + ("" if found else ", and no smaller file was found")


def data_url(pixels: Pixels) -> str:
    """Return an image uint8 (H, W, 3) as a WebP in a data URL."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", quality=SHOWN, method=4)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
