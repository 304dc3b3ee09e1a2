"""The pixel networks: the encoder, images to token grids, and the decoder, token grids to images.

They are ordinary float networks: their outputs may differ between machines, and no symbol of a file depends on that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Pixels, Tokens
from uigc.runtime.networks.outputs import pixels_of, tokens_of
from uigc.runtime.networks.tiling import Band, tiles
from uigc.runtime.progress import Progress, silent
from uigc.runtime.providers import Graph
from uigc.runtime.spans import span

SMALLEST_TILE = 8  # tokens each way, without the halo


@dataclass(frozen=True)
class PixelNetworks:
    """Encoder and pixel decoder.

    ``load(name)`` gives the graph ``encoder``, images uint8 (batch, H, W, 3) to int32 (batch, h, w), or ``decoder``,
    which is its inverse; a token stands for ``patch`` x ``patch`` pixels and is one of ``codebook``
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
        if len(grids) == 1 and len(self._tiles("decoder", height, width)) == 1:
            progress("decoder", 0, 1)
            painted = self._paint(tokens)
            progress("decoder", 1, 1)
            return [painted[0]]
        images = [np.empty((height * patch, width * patch, 3), dtype=np.uint8) for _ in grids]

        def work(rows: Band, columns: Band) -> None:
            painted = self._paint(np.ascontiguousarray(tokens[:, rows.seen(), columns.seen()]))
            with span("image out") as step:
                for image, part in zip(images, painted, strict=True):
                    own = image[rows.own(patch), columns.own(patch)]
                    own[...] = part[rows.inside(patch), columns.inside(patch)]
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
        parts = self._tiles(name, height, width)
        for done, part in enumerate(parts):
            progress(name, done, len(parts))
            work(*part)
        progress(name, len(parts), len(parts))

    def _tiles(self, name: str, height: int, width: int) -> tuple[tuple[Band, Band], ...]:
        halo = self.halos.get(name)
        largest = height * width if halo is None else max(self.max_tokens, 1)
        return tiles(height, width, largest, halo or 0, SMALLEST_TILE)

    def _tokens(self, images: list[Pixels]) -> Tokens:
        encoder = self.load("encoder")
        with span("image in") as step:
            stacked = np.ascontiguousarray(images[0])[None] if len(images) == 1 else np.stack(images)
            step.moved(stacked.nbytes)
        with span("encoder", runs_on=encoder) as step:
            shape = len(images), stacked.shape[1] // self.patch, stacked.shape[2] // self.patch
            tokens = tokens_of(encoder(stacked), shape, self.codebook)
            step.moved(stacked.nbytes + tokens.nbytes)
        return tokens

    def _paint(self, tokens: Tokens) -> NDArray[np.uint8]:
        decoder = self.load("decoder")
        with span("decoder", runs_on=decoder) as step:
            count, height, width = tokens.shape
            painted = pixels_of(decoder(tokens), (count, height * self.patch, width * self.patch, 3))
            step.moved(tokens.nbytes + painted.nbytes)
        return painted


def _parts(items: list[Any], size: int) -> list[list[Any]]:
    return [items[begin : begin + size] for begin in range(0, len(items), size)]


def pad_to_patches(pixels: Pixels, patch: int) -> Pixels:
    """Extend an image (H, W, 3) to whole patches by replicating its last row and column."""
    height, width = pixels.shape[:2]
    if height % patch == width % patch == 0:
        return pixels
    return np.pad(pixels, ((0, -height % patch), (0, -width % patch), (0, 0)), mode="edge")
