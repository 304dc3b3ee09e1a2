"""The pixel networks: the encoder, images to token grids, and the decoder, token grids to images.

They are ordinary float networks: their outputs may differ between machines, and no symbol of a file depends on that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Pixels, Tokens
from uigc.runtime.networks.outputs import planes_of, tokens_of
from uigc.runtime.networks.tiling import Band, tiles
from uigc.runtime.progress import Progress, silent
from uigc.runtime.providers import Graph
from uigc.runtime.spans import span

if TYPE_CHECKING:
    pass

SMALLEST_TILE = 8  # tokens each way, without the halo


@dataclass(frozen=True)
class PixelNetworks:
    """Encoder and pixel decoder.

    ``load(name)`` gives the graph ``encoder``, float32 (batch, 3, H, W) in [0, 1] to int32 (batch, h, w), or
    ``decoder``, which is its inverse; a token stands for ``patch`` x ``patch`` pixels and is one of ``codebook``
    codewords. Images of more than ``max_tokens`` tokens are worked on in tiles, by the graphs for which ``halos`` has
    the number of tokens around a tile that its inside depends on.
    """

    load: Callable[[str], Graph]
    patch: int
    codebook: int
    max_tokens: int = 1 << 40
    halos: Mapping[str, int] = field(default_factory=dict)

    def tokenize(self, images: list[Pixels], progress: Progress = silent) -> Tokens:
        """Return the token grids int32 (n, h, w) of images uint8 (H, W, 3); all grids have one shape.

        h = ceil(H / patch) and w = ceil(W / patch): borders are extended to whole patches by replication.
        """
        height, width = (-(-side // self.patch) for side in images[0].shape[:2])
        if len(images) > (few := self._max_batch(height * width)):
            return np.concatenate([self.tokenize(part, progress) for part in _parts(images, few)])
        with span("image in"):
            padded = [pad_to_patches(pixels, self.patch) for pixels in images]
        result = np.empty((len(padded), height, width), dtype=np.int32)

        def work(rows: Band, columns: Band) -> None:
            tokens = self._tokens([pixels[rows.seen(self.patch), columns.seen(self.patch)] for pixels in padded])
            result[:, rows.own(), columns.own()] = tokens[:, rows.inside(), columns.inside()]

        self._in_tiles("encoder", height, width, work, progress)
        return result

    def detokenize(self, grids: list[Tokens], progress: Progress = silent) -> list[Pixels]:
        """Return the image uint8 (patch * h, patch * w, 3) of each grid int32 (h, w); all grids have one shape."""
        if len(grids) > (few := self._max_batch(grids[0].size)):
            return [image for part in _parts(grids, few) for image in self.detokenize(part, progress)]
        tokens, patch = np.stack(grids), self.patch
        _, height, width = tokens.shape
        images = [np.empty((height * patch, width * patch, 3), dtype=np.uint8) for _ in grids]

        def work(rows: Band, columns: Band) -> None:
            planes = self._planes(np.ascontiguousarray(tokens[:, rows.seen(), columns.seen()]))
            with span("image out") as step:
                for image, plane in zip(images, planes, strict=True):
                    own = image[rows.own(patch), columns.own(patch)]
                    _from_network(plane[:, rows.inside(patch), columns.inside(patch)], own)
                    step.moved(own.nbytes)

        self._in_tiles("decoder", height, width, work, progress)
        return images

    def _max_batch(self, tokens: int) -> int:
        """Return how many images of ``tokens`` tokens go through a network at a time; only single ones are tiled."""
        return max(1, self.max_tokens // tokens)

    def _in_tiles(
        self, name: str, height: int, width: int, work: Callable[[Band, Band], None], progress: Progress
    ) -> None:
        """Call ``work`` for every tile of a grid, or once for a graph without a halo."""
        halo = self.halos.get(name)
        largest = height * width if halo is None else max(self.max_tokens, 1)
        parts = tiles(height, width, largest, halo or 0, SMALLEST_TILE)
        for done, part in enumerate(parts):
            progress(name, done, len(parts))
            work(*part)
        progress(name, len(parts), len(parts))

    def _tokens(self, images: list[Pixels]) -> Tokens:
        encoder = self.load("encoder")
        with span("image in") as step:
            planes = np.concatenate([_to_network(pixels) for pixels in images])
            step.moved(planes.nbytes)
        with span("encoder", runs_on=encoder) as step:
            shape = len(planes), planes.shape[2] // self.patch, planes.shape[3] // self.patch
            tokens = tokens_of(encoder(planes), shape, self.codebook)
            step.moved(planes.nbytes + tokens.nbytes)
        return tokens

    def _planes(self, tokens: Tokens) -> NDArray[np.float32]:
        decoder = self.load("decoder")
        with span("decoder", runs_on=decoder) as step:
            count, height, width = tokens.shape
            planes = planes_of(decoder(tokens), (count, 3, height * self.patch, width * self.patch))
            step.moved(tokens.nbytes + planes.nbytes)
        return planes


def _parts(items: list[Any], size: int) -> list[list[Any]]:
    return [items[begin : begin + size] for begin in range(0, len(items), size)]


def pad_to_patches(pixels: Pixels, patch: int) -> Pixels:
    """Extend an image (H, W, 3) to whole patches by replicating its last row and column."""
    height, width = pixels.shape[:2]
    if height % patch == width % patch == 0:
        return pixels
    return np.pad(pixels, ((0, -height % patch), (0, -width % patch), (0, 0)), mode="edge")


def _to_network(image: Pixels) -> NDArray[np.float32]:
    """Convert uint8 (H, W, 3) to float32 (1, 3, H, W) in [0, 1]."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32)
    planes /= np.float32(255)
    return planes


def _from_network(pixels: NDArray[np.float32], out: Pixels) -> None:
    """Convert float32 (3, H, W) in [0, 1] to uint8 (H, W, 3), written to ``out``."""
    scaled = np.clip(pixels, 0, 1)
    scaled *= np.float32(255)
    out[...] = np.rint(scaled, out=scaled).transpose(1, 2, 0)
