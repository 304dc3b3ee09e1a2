"""The codec: a picture to a file and back."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from uigc.runtime import bitstream, mask, providers
from uigc.runtime.bundle import Bundle
from uigc.runtime.coder import SymbolReader, SymbolWriter, TokenModel
from uigc.runtime.errors import InputError, OtherPriorError, UsageError
from uigc.runtime.manifest import CODER_TABLE, MASK_TABLE
from uigc.runtime.mask import Mask, MaskMode
from uigc.runtime.providers import OPTIMIZATIONS, Graph, ProviderOptions
from uigc.runtime.spans import span
from uigc.runtime.stages import Progress, StagedPrior, Tokens, silent

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]
DEFAULT_MASK = "edge"
MAX_PIXELS = 1 << 25  # an 8K picture; larger ones must be asked for, because memory grows with them


@dataclass(frozen=True)
class Encoded:
    """A file and what its decoder will see: ``grid`` int32 (h, w) of tokens, ``sent`` which of them are in the file."""

    data: bytes
    grid: Tokens
    sent: NDArray[np.bool_]


class Codec:
    """Compresses and decompresses pictures with one bundle on one provider.

    Graphs are loaded when first needed. A codec may be used from one thread at a time.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str | None = None,
        provider: str = providers.DEFAULT,
        threads: int | None = None,
        optimization: str = "all",
        max_pixels: int = MAX_PIXELS,
        precision: str | None = None,
        pixel_precision: str | None = None,
    ) -> None:
        """``bundle``: a loaded bundle, its folder, or None for the one that ships; ``provider``: see ``uigc doctor``;
        ``threads``: per graph, None for the provider's choice; ``optimization``: how far the provider may rewrite
        graphs (``all``, ``extended``, ``basic``, ``off``); ``precision``: of the prior's graphs, ``fp32``, ``fp16`` or
        ``int8``, None for the fastest on that provider. None of them changes a symbol. ``pixel_precision``: of encoder
        and pixel decoder, None for the provider's choice; it changes pixels, and which words an encoder finds."""
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        self.max_pixels = max_pixels
        if optimization not in OPTIMIZATIONS:
            raise UsageError(f"There is no optimization {optimization!r}; choose one of: {', '.join(OPTIMIZATIONS)}.")
        runner, options = providers.find(provider), ProviderOptions(threads, optimization)
        self.precision = self.bundle.choose(("stage0",), precision, runner.precisions)
        self.pixel_precision = self.bundle.choose(("encoder", "decoder"), pixel_precision, runner.pixel_precisions)

        @cache
        def load(name: str) -> Graph:
            chosen = self.precision if name.startswith("stage") else self.pixel_precision
            return runner.load(self.bundle.graph(name, chosen), options)

        self._load = load
        self._mask_table = self.bundle.table(MASK_TABLE)
        self.prior = StagedPrior(
            self.bundle.schedule,
            TokenModel(self.bundle.table(CODER_TABLE), self.bundle.codebook),
            self.bundle.window,
            self.bundle.unknown,
            self.bundle.pad,
            lambda stage: load(f"stage{stage}"),
        )

    def compress(self, image: Pixels | Image, mask: Mask | str = DEFAULT_MASK, progress: Progress = silent) -> bytes:
        """The bytes of a .uigc file for a picture: uint8 (H, W, 3) sRGB, or a PIL image.

        ``mask`` is ``entire``, ``edge`` or ``edge_more``: which tokens are sent (see ``docs/FORMAT.md``); after a colon
        the share of the picture that counts as edges, as in ``edge_more:0.2``, makes files of any size in between.
        """
        return self.encode(image, mask, progress).data

    def decompress(self, data: bytes, progress: Progress = silent) -> Pixels:
        """The picture uint8 (H, W, 3) sRGB of a .uigc file; raises a :class:`UigcError` rather than a wrong picture."""
        with span("header"):
            header, payload = bitstream.unpack(data)
        grid = self._decode_payload(header, payload, progress)
        progress("decoder", 0, 1)
        pixels = self.paint(grid)[: header.height, : header.width]
        progress("decoder", 1, 1)
        return np.ascontiguousarray(pixels)

    def encode(self, image: Pixels | Image, mask: Mask | str = DEFAULT_MASK, progress: Progress = silent) -> Encoded:
        """As :meth:`compress`, with the token grid that a decoder will end with."""
        choice, pixels = Mask.of(mask), _pixels(image)
        height, width = pixels.shape[:2]
        bitstream.check_size(width, height, self.max_pixels)
        progress("encoder", 0, 1)
        tokens = self.tokenize(pixels)
        progress("encoder", 1, 1)
        return self.encode_tokens(tokens, pixels, choice, progress)

    def encode_tokens(
        self, tokens: Tokens, pixels: Pixels, choice: Mask | MaskMode | str, progress: Progress = silent
    ) -> Encoded:
        """The file of a token grid (h, w); ``pixels`` give the size and the edges."""
        height, width = pixels.shape[:2]
        chosen = Mask.of(choice)
        writer = SymbolWriter()
        edges = np.zeros(mask.block_shape(*tokens.shape), dtype=bool)
        with span("mask"):
            if chosen.mode is not MaskMode.ENTIRE:
                edges = mask.edge_blocks(self._padded(pixels), self.bundle.patch, chosen.edges)
                mask.write_bits(writer, edges, self._mask_table)
            sent = mask.sent_tokens(chosen.mode, edges, self.bundle.schedule, *tokens.shape)
        grid = self.prior.encode(tokens, sent, writer, progress)
        with span("file"):
            writer.write_check(_check(grid))
            header = bitstream.Header(width, height, chosen.mode, self.bundle.prior_id[: bitstream.PRIOR_ID_BYTES])
            return Encoded(bitstream.pack(header, writer.finish()), grid, sent)

    def decode_tokens(self, data: bytes, progress: Progress = silent) -> Tokens:
        """The token grid int32 (h, w) of a file, lost tokens regenerated, without painting it."""
        return self._decode_payload(*bitstream.unpack(data), progress)

    def tokenize(self, pixels: Pixels) -> Tokens:
        """Pixels (H, W, 3) -> tokens int32 (ceil(H/16), ceil(W/16)); the borders are padded by replication."""
        encoder = self._load("encoder")
        with span("image in") as step:
            planes = _to_network(self._padded(pixels))
            step.moved(planes.nbytes)
        with span("encoder", runs_on=encoder) as step:
            tokens: Tokens = encoder(planes)[0]
            step.moved(planes.nbytes + tokens.nbytes)
        return tokens

    def paint(self, grid: Tokens) -> Pixels:
        """Tokens (h, w) -> pixels uint8 (16h, 16w, 3)."""
        decoder = self._load("decoder")
        with span("decoder", runs_on=decoder) as step:
            planes = decoder(np.ascontiguousarray(grid[None]))
            step.moved(grid.nbytes + planes.nbytes)
        with span("image out") as step:
            pixels = _from_network(planes)
            step.moved(pixels.nbytes)
        return pixels

    def _decode_payload(self, header: bitstream.Header, payload: bytes, progress: Progress) -> Tokens:
        own = self.bundle.prior_id[: bitstream.PRIOR_ID_BYTES]
        if header.prior_id != own:
            raise OtherPriorError(
                f"The file was written with the prior {header.prior_id.hex()} and this bundle holds {own.hex()}; "
                "give --bundle the one that wrote it."
            )
        bitstream.check_size(header.width, header.height, self.max_pixels)
        patch = self.bundle.patch
        shape = -(-header.height // patch), -(-header.width // patch)
        reader = SymbolReader(payload)
        with span("mask"):
            edges = np.zeros(mask.block_shape(*shape), dtype=bool)
            if header.mode is not MaskMode.ENTIRE:
                edges = mask.read_bits(reader, edges.shape, self._mask_table)
            sent = mask.sent_tokens(header.mode, edges, self.bundle.schedule, *shape)
        grid = self.prior.decode(sent, reader, progress)
        with span("check"):
            reader.expect_check(_check(grid))
        return grid

    def _padded(self, pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        patch = self.bundle.patch
        return np.pad(pixels, ((0, -height % patch), (0, -width % patch), (0, 0)), mode="edge")


def _to_network(image: Pixels) -> NDArray[np.float32]:
    """uint8 (H, W, 3) -> float32 (1, 3, H, W) in [0, 1]."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)


def _from_network(pixels: NDArray[np.float32]) -> Pixels:
    """float32 (1, 3, H, W) in [0, 1] -> uint8 (H, W, 3)."""
    rounded = np.rint(np.clip(pixels[0], 0, 1) * np.float32(255)).astype(np.uint8)
    return np.ascontiguousarray(rounded.transpose(1, 2, 0))


def _check(grid: Tokens) -> int:
    """16 bits of the CRC-32 of the grid's tokens as big-endian int32."""
    return zlib.crc32(grid.astype(">i4").tobytes()) & 0xFFFF


def _pixels(image: Pixels | Image) -> Pixels:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(
                f"An array of {image.dtype} {image.shape} is not a picture; give uint8 (height, width, 3) in sRGB."
            )
        return image
    from uigc.runtime.image import to_srgb

    return to_srgb(image)
