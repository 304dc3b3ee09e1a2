"""The two pixel networks: pictures to tokens, tokens to pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.errors import InputError
from uigc.runtime.providers import Graph
from uigc.runtime.spans import span

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]
Tokens = NDArray[np.int32]


@dataclass(frozen=True)
class PixelNetworks:
    """``load`` gives the graphs ``encoder``, float32 (batch, 3, H, W) in [0, 1] -> int32 (batch, h, w), and
    ``decoder``, which goes back; a token stands for ``patch`` x ``patch`` pixels."""

    load: Callable[[str], Graph]
    patch: int

    def tokenize(self, pictures: list[Pixels]) -> Tokens:
        """Pictures uint8 (H, W, 3), their grids of one size -> tokens int32 (n, ceil(H / patch), ceil(W / patch)); the
        borders are padded by replication."""
        encoder = self.load("encoder")
        with span("image in") as step:
            planes = np.concatenate([_to_network(padded(pixels, self.patch)) for pixels in pictures])
            step.moved(planes.nbytes)
        with span("encoder", runs_on=encoder) as step:
            tokens: Tokens = encoder(planes)
            step.moved(planes.nbytes + tokens.nbytes)
        return tokens

    def paint(self, grids: list[Tokens]) -> list[Pixels]:
        """Grids int32 (h, w) of one size -> the picture of each, uint8 (patch * h, patch * w, 3)."""
        decoder = self.load("decoder")
        with span("decoder", runs_on=decoder) as step:
            tokens = np.stack(grids)
            planes = decoder(tokens)
            step.moved(tokens.nbytes + planes.nbytes)
        with span("image out") as step:
            pictures = [_from_network(picture) for picture in planes]
            step.moved(sum(picture.nbytes for picture in pictures))
        return pictures


def padded(pixels: Pixels, patch: int) -> Pixels:
    """A picture (H, W, 3) extended to whole patches by replication of its last row and column."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, -height % patch), (0, -width % patch), (0, 0)), mode="edge")


def _to_network(image: Pixels) -> NDArray[np.float32]:
    """uint8 (H, W, 3) -> float32 (1, 3, H, W) in [0, 1]."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)


def _from_network(pixels: NDArray[np.float32]) -> Pixels:
    """float32 (3, H, W) in [0, 1] -> uint8 (H, W, 3)."""
    rounded = np.rint(np.clip(pixels, 0, 1) * np.float32(255)).astype(np.uint8)
    return np.ascontiguousarray(rounded.transpose(1, 2, 0))


def as_pixels(image: Pixels | Image) -> Pixels:
    """The picture as uint8 (H, W, 3) sRGB; refuses other arrays."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(
                f"An array of {image.dtype} {image.shape} is not a picture; give uint8 (height, width, 3) in sRGB."
            )
        return image
    from uigc.runtime.image import to_srgb

    return to_srgb(image)
