"""The codec: an image to a file and back."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from uigc.runtime import providers
from uigc.runtime.arrays import Bits, Pixels, Tokens
from uigc.runtime.batching import check_counts, in_batches
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.manifest import CODER_TABLE, MASK_TABLE
from uigc.runtime.errors import PriorMismatchError, UigcError, UsageError
from uigc.runtime.format import bitstream, block_choice, mask, mask_coding
from uigc.runtime.format.entropy_coder import SymbolReader, SymbolWriter, TokenEntropyModel
from uigc.runtime.format.mask import Mask, MaskMode
from uigc.runtime.limits import Limits
from uigc.runtime.networks.graph_loader import GraphLoader
from uigc.runtime.networks.pixel_networks import PixelNetworks, as_pixels, padded
from uigc.runtime.networks.staged_prior import StagedPrior
from uigc.runtime.networks.tiling import DEFAULT_MEMORY, tokens_within, windows_within
from uigc.runtime.outcomes import capture, map_ok, unwrap
from uigc.runtime.progress import Progress, silent
from uigc.runtime.providers import OPTIMIZATIONS, Graph, ProviderOptions
from uigc.runtime.spans import span
from uigc.runtime.tuning_cache import preferred

if TYPE_CHECKING:
    from PIL.Image import Image

File = tuple[bitstream.Header, bytes]
DEFAULT_JOBS = 2
DEFAULT_MASK = "edge"


@dataclass(frozen=True)
class Encoded:
    """A file and what its decoder will see: ``grid`` int32 (h, w) of tokens, ``sent`` which of them are in the file."""

    data: bytes
    grid: Tokens
    sent: NDArray[np.bool_]


class Codec:
    """Compresses and decompresses images with one bundle on one provider.

    GraphLoader are loaded when first needed. A codec may be used from several threads at a time.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str | None = None,
        provider: str = providers.DEFAULT,
        threads: int | None = None,
        optimization: str = "all",
        max_pixels: int | None = None,
        precision: str | None = None,
        pixel_precision: str | None = None,
        engines: Path | str | None = None,
        max_memory: int = DEFAULT_MEMORY,
    ) -> None:
        """``bundle``: a loaded bundle, its folder, or None for the one that ships; ``provider``: see ``uigc doctor``;
        ``threads``: per graph, None for the provider's choice; ``optimization``: how far the provider may rewrite
        graphs (``all``, ``extended``, ``basic``, ``off``); ``max_pixels``: refuse larger images, None for 2^25, or
        2^22 if the bundle's tokenizer looks at the whole image; ``precision``: of the prior's graphs, ``fp32``,
        ``fp16`` or ``int8``, None for the fastest (see ``uigc doctor --tune``). None of them changes a symbol.
        ``pixel_precision``: of encoder and pixel decoder, None for the provider's choice; it changes pixels, and which
        words an encoder finds. ``engines``: folder that ``uigc build`` wrote, for the providers that run engines.
        ``max_memory``: bytes that the networks may use, about; larger images are worked on in parts, equally."""
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle, recompute=False)
        self.limits = Limits(self.bundle.local, max_pixels)
        if optimization not in OPTIMIZATIONS:
            raise UsageError(f"There is no optimization {optimization!r}; choose one of: {', '.join(OPTIMIZATIONS)}.")
        runner = providers.find(provider, None if engines is None else Path(engines))
        options = ProviderOptions(threads, optimization)
        best, stages, pixels = partial(preferred, self.bundle, provider), ["stage0"], ["encoder", "decoder"]
        self.precision = self.bundle.choose(stages, precision, best("precision", runner.precisions, stages))
        offered = best("pixel_precision", runner.pixel_precisions, pixels)
        self.pixel_precision = self.bundle.choose(pixels, pixel_precision, offered)
        self._most: int = getattr(runner, "batch", 1)  # providers need not say

        def load(name: str) -> Graph:
            chosen = self.precision if name.startswith("stage") else self.pixel_precision
            return runner.load(self.bundle.graph(name, chosen), options)

        self._graphs = GraphLoader(load)
        self._stages = [f"stage{stage}" for stage in range(len(self.bundle.schedule))]
        tokens, config = tokens_within(max_memory), self.bundle.manifest["prior"]["config"]
        self.networks = PixelNetworks(self._graphs, self.bundle.patch, tokens, self.bundle.halos)
        self._mask_table = self.bundle.table(MASK_TABLE)
        self.prior = StagedPrior(
            self.bundle.schedule,
            TokenEntropyModel(self.bundle.table(CODER_TABLE), self.bundle.codebook),
            self.bundle.window,
            self.bundle.unknown,
            self.bundle.pad,
            lambda stage: self._graphs(self._stages[stage]),
            windows_within(max_memory, config["window"], config["heads"], config["width"]),
            config["layers"] // 2,
        )

    def compress(self, image: Pixels | Image, mask: Mask | str = DEFAULT_MASK, progress: Progress = silent) -> bytes:
        """The bytes of a .uigc file for an image: uint8 (H, W, 3) sRGB, or a PIL image.

        ``mask`` is ``entire``, ``edge`` or ``edge_more``: which tokens are sent (see ``docs/FORMAT.md``); after a colon
        the share of the image that is kept whole, as in ``edge_more:0.2``, makes files of any size in between.
        After ``+draw`` and perhaps a seed, the tokens that are lost are drawn by the decoder (``docs/CLI.md``).
        """
        return self.encode(image, mask, progress).data

    def decompress(self, data: bytes, progress: Progress = silent) -> Pixels:
        """The image uint8 (H, W, 3) sRGB of a .uigc file; raises a :class:`UigcError` rather than a wrong image."""
        return unwrap(self._pixels_of([self._unpack(data)], progress)[0])

    def compress_many(
        self,
        images: Iterable[Pixels | Image | UigcError],
        mask: Mask | str = DEFAULT_MASK,
        batch: int | None = None,
        jobs: int = DEFAULT_JOBS,
    ) -> Iterator[bytes | UigcError]:
        """As :meth:`compress` for each of many images, lazily and in order; see :meth:`decompress_many`."""
        choice = Mask.parse(mask)
        check_counts(batch, jobs)
        return in_batches(
            images,
            prepare=self._accepted,
            key=lambda pixels: self._grid_shape(*pixels.shape[:2]),
            work=lambda pictures: [encoded.data for encoded in self._encode_batch(pictures, choice)],
            batch=lambda pixels: self._batch(batch, *pixels.shape[:2]),
            jobs=jobs,
        )

    def decompress_many(
        self, files: Iterable[bytes | UigcError], batch: int | None = None, jobs: int = DEFAULT_JOBS
    ) -> Iterator[Pixels | UigcError]:
        """As :meth:`decompress` for each of many files, lazily and in order.

        A file that fails gives its :class:`UigcError` instead of an image, and the others go on; an error among the
        ``files`` is handed on in its place. ``batch``: how many files of one size go through the networks together at
        most, None for the provider's choice; ``jobs``: how many batches are under way at a time, in a thread each, so
        that the coder of one works while the networks of another run. Only what is under way is held in memory.
        Neither changes a byte or a symbol.
        """
        check_counts(batch, jobs)
        return in_batches(
            files,
            prepare=lambda data: self._unpack(unwrap(data)),
            key=lambda file: self._grid_shape(file[0].height, file[0].width),
            work=lambda batch: self._pixels_of(batch, silent),
            batch=lambda file: self._batch(batch, file[0].height, file[0].width),
            jobs=jobs,
        )

    def encode(self, image: Pixels | Image, mask: Mask | str = DEFAULT_MASK, progress: Progress = silent) -> Encoded:
        """As :meth:`compress`, with the token grid that a decoder will end with."""
        choice = Mask.parse(mask)
        return self._encode_batch([self._accepted(image)], choice, progress)[0]

    def encode_tokens(
        self, tokens: Tokens, pixels: Pixels, choice: Mask | MaskMode | str, progress: Progress = silent
    ) -> Encoded:
        """The file of a token grid (h, w); ``pixels`` give the size and the edges."""
        return self._encode_grids([tokens], [pixels], Mask.parse(choice), progress)[0]

    def decode_tokens(self, data: bytes, progress: Progress = silent) -> Tokens:
        """The token grid int32 (h, w) of a file, lost tokens regenerated, without painting it."""
        return unwrap(self._grids_of([self._unpack(data)], progress)[0])

    def tokenize(self, pixels: Pixels) -> Tokens:
        """Pixels (H, W, 3) -> tokens int32 (ceil(H/16), ceil(W/16)); the borders are padded by replication."""
        tokens: Tokens = self.networks.tokenize([pixels])[0]
        return tokens

    def detokenize(self, grid: Tokens) -> Pixels:
        """Tokens (h, w) -> pixels uint8 (16h, 16w, 3)."""
        return self.networks.detokenize([grid])[0]

    def _accepted(self, image: Pixels | Image | UigcError) -> Pixels:
        if isinstance(image, UigcError):
            raise image
        pixels = as_pixels(image)
        self.limits.check(pixels.shape[1], pixels.shape[0])
        return pixels

    def _encode_batch(self, pictures: list[Pixels], choice: Mask, progress: Progress = silent) -> list[Encoded]:
        self._graphs.prefetch(["encoder", *self._stages])
        grids = self.networks.tokenize(pictures, progress)
        return self._encode_grids(list(grids), pictures, choice, progress)

    def _encode_grids(
        self, grids: list[Tokens], pictures: list[Pixels], choice: Mask, progress: Progress
    ) -> list[Encoded]:
        writers = [SymbolWriter() for _ in grids]
        with span("mask"):
            kept = self._kept_blocks(grids, pictures, choice)
            sent = [self._write_mask(*picture, choice.mode) for picture in zip(writers, grids, kept, strict=True)]
        ends = [unwrap(end) for end in self.prior.encode_many(grids, sent, writers, progress, choice.seed)]
        with span("file"):
            return [self._pack(*picture, choice) for picture in zip(writers, pictures, ends, sent, strict=True)]

    def _kept_blocks(self, grids: list[Tokens], pictures: list[Pixels], choice: Mask) -> list[Bits]:
        """Blocks of 2x2 tokens of each image that are sent whole."""
        nothing = np.zeros(mask.block_shape(*grids[0].shape), dtype=bool)
        if choice.mode is MaskMode.ENTIRE:
            return [nothing for _ in grids]
        patch = self.bundle.patch
        if choice.by == "gradient":
            return [block_choice.edge_blocks(padded(pixels, patch), patch, choice.share) for pixels in pictures]
        sent = mask.sent_tokens(choice.mode, nothing, self.bundle.schedule, *grids[0].shape)
        back = self.prior.regenerate(grids, [sent for _ in grids], choice.seed)
        return [
            block_choice.lost_blocks(tokens, made, self.bundle.codewords, choice.share)
            for tokens, made in zip(grids, back, strict=True)
        ]

    def _write_mask(self, writer: SymbolWriter, tokens: Tokens, kept: Bits, mode: MaskMode) -> Bits:
        """Write the mask of an image: which tokens (h, w) are sent."""
        if mode is not MaskMode.ENTIRE:
            mask_coding.write_bits(writer, kept, self._mask_table)
        return mask.sent_tokens(mode, kept, self.bundle.schedule, *tokens.shape)

    def _pack(self, writer: SymbolWriter, pixels: Pixels, grid: Tokens, sent: Bits, choice: Mask) -> Encoded:
        writer.write_check(_check(grid))
        height, width = pixels.shape[:2]
        prior_id = self.bundle.prior_id[: bitstream.PRIOR_ID_BYTES]
        header = bitstream.Header(width, height, choice.mode, prior_id, seed=choice.seed)
        return Encoded(bitstream.pack(header, writer.finish()), grid, sent)

    def _unpack(self, data: bytes) -> File:
        """Header and payload of a file that this codec can decode."""
        with span("header"):
            header, payload = bitstream.unpack(data)
            own = self.bundle.prior_id[: bitstream.PRIOR_ID_BYTES]
            if header.prior_id != own:
                raise PriorMismatchError(
                    f"The file was written with the prior {header.prior_id.hex()} and this bundle holds {own.hex()}; "
                    "give --bundle the one that wrote it."
                )
            self.limits.check(header.width, header.height)
        return header, payload

    def _pixels_of(self, files: list[File], progress: Progress) -> list[Pixels | UigcError]:
        """The images of files whose grids have one size."""
        self._graphs.prefetch([*self._stages, "decoder"])
        grids = self._grids_of(files, progress)
        pictures = map_ok(lambda good: self.networks.detokenize(good, progress), grids)
        return [
            painted if isinstance(painted, UigcError) else _cropped(painted, header)
            for painted, (header, _) in zip(pictures, files, strict=True)
        ]

    def _grids_of(self, files: list[File], progress: Progress) -> list[Tokens | UigcError]:
        readers, seeds = [SymbolReader(payload) for _, payload in files], [header.seed for header, _ in files]
        opened = zip(files, readers, strict=True)
        with span("mask"):
            sent = [capture(partial(self._read_mask, header, reader)) for (header, _), reader in opened]
        good = [index for index, bits in enumerate(sent) if not isinstance(bits, UigcError)]
        read, drawn = [readers[index] for index in good], [seeds[index] for index in good]
        grids = map_ok(lambda bits: self.prior.decode_many(bits, read, progress, drawn), sent)
        with span("check"):
            return [capture(partial(_checked, *picture)) for picture in zip(grids, readers, strict=True)]

    def _read_mask(self, header: bitstream.Header, reader: SymbolReader) -> Bits:
        """The inverse of :meth:`_write_mask`."""
        shape = self._grid_shape(header.height, header.width)
        edges = np.zeros(mask.block_shape(*shape), dtype=bool)
        if header.mode is not MaskMode.ENTIRE:
            edges = mask_coding.read_bits(reader, edges.shape, self._mask_table)
        return mask.sent_tokens(header.mode, edges, self.bundle.schedule, *shape)

    def _grid_shape(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // self.bundle.patch), -(-width // self.bundle.patch)

    def _batch(self, asked: int | None, height: int, width: int) -> int:
        """How many images of a size go through the networks together."""
        return min(self._most if asked is None else asked, self.limits.batch(width, height))


def _cropped(pixels: Pixels, header: bitstream.Header) -> Pixels:
    return np.ascontiguousarray(pixels[: header.height, : header.width])


def _checked(grid: Tokens | UigcError, reader: SymbolReader) -> Tokens:
    tokens = unwrap(grid)
    reader.expect_check(_check(tokens))
    return tokens


def _check(grid: Tokens) -> int:
    """16 bits of the CRC-32 of the grid's tokens as big-endian int32."""
    return zlib.crc32(grid.astype(">i4").tobytes()) & 0xFFFF
