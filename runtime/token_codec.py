"""The exact half of the codec: token grids to the bytes of files, and back.

Every value here is an integer, so every machine writes the same bytes and reads the same grids; it is the decoder that
``uigc::decode`` is in C++. The tolerant half, images to token grids and back, is in ``networks/pixel_networks.py``.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from uigc.runtime import providers
from uigc.runtime.arrays import Bits, Tokens
from uigc.runtime.block_search import best_seeds, first_blocks, ranked_blocks
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.manifest import CODER_TABLE, MASK_TABLE
from uigc.runtime.errors import InexactError, PriorMismatchError, UigcError, UsageError
from uigc.runtime.format import bitstream, mask, mask_coding
from uigc.runtime.format.bitstream import Header
from uigc.runtime.format.block_choice import lost_blocks
from uigc.runtime.format.entropy_coder import TokenEntropyModel
from uigc.runtime.format.grid import grid_shape
from uigc.runtime.format.mask import Mask
from uigc.runtime.format.mask_mode import MaskMode
from uigc.runtime.format.range_coder import SymbolReader, SymbolWriter
from uigc.runtime.limits import Limits
from uigc.runtime.networks.graph_loader import GraphLoader
from uigc.runtime.networks.staged_prior import StagedPrior
from uigc.runtime.networks.tiling import windows_within
from uigc.runtime.outcomes import unwrap
from uigc.runtime.progress import Progress, silent
from uigc.runtime.providers import Graph, ProviderOptions
from uigc.runtime.spans import span

File = tuple[Header, bytes]
"""A parsed file: header and payload."""


@dataclass(frozen=True)
class Encoded:
    """A file, and what its decoder ends with.

    ``data``: the bytes of the file; ``grid``: the decoder's token grid, int32 (h, w); ``sent``: bool (h, w), which of
    the tokens are in the file.
    """

    data: bytes
    grid: Tokens
    sent: Bits


@dataclass
class _Decoding:
    """One file on its way through a batch; a failure ends it and stops no other."""

    header: Header
    reader: SymbolReader
    sent: Bits | None = None
    grid: Tokens | None = None
    failure: UigcError | None = None

    @property
    def outcome(self) -> Tokens | UigcError:
        if self.failure is not None:
            return self.failure
        assert self.grid is not None
        return self.grid


def staged_prior(bundle: Bundle, load: Callable[[int], Graph], max_memory: int) -> StagedPrior:
    """Return the prior of a bundle; ``load(stage)`` gives its graphs, ``max_memory`` is in bytes."""
    config = bundle.manifest["prior"]["config"]
    return StagedPrior(
        schedule=bundle.schedule,
        model=TokenEntropyModel(bundle.table(CODER_TABLE), bundle.codebook),
        window=bundle.window,
        unknown=bundle.unknown,
        pad=bundle.pad,
        load=load,
        max_windows=windows_within(max_memory, config["window"], config["heads"], config["width"]),
        has_sums=bundle.has_sums,
        halo=config["layers"] // 2,  # every second layer is shifted, and reaches one window further
    )


def reference_reader(bundle: Bundle, limits: Limits, max_memory: int) -> TokenCodec:
    """Return a token codec on the provider ``cpu``, on which the files of every other provider must decode."""
    runner = providers.find(providers.DEFAULT)
    precision = bundle.choose(["stage0"], None, runner.precisions)
    graphs = GraphLoader(lambda name: runner.load(bundle.graph(name, precision), ProviderOptions()))
    return TokenCodec(bundle, staged_prior(bundle, lambda stage: graphs(f"stage{stage}"), max_memory), limits, graphs)


class TokenCodec:
    """Writes and reads the files of one bundle with its staged prior.

    ``limits`` refuse images that are too large; ``graphs``: those of the prior, if they are closed with this codec.
    """

    def __init__(self, bundle: Bundle, prior: StagedPrior, limits: Limits, graphs: GraphLoader | None = None) -> None:
        self.bundle, self.prior, self.limits, self._graphs = bundle, prior, limits, graphs
        self.mask_table = bundle.table(MASK_TABLE)
        self._mask_models = mask_coding.MaskModels(self.mask_table)

    def close(self) -> None:
        """Free the graphs that are its own."""
        if self._graphs is not None:
            self._graphs.close()

    def encode(
        self,
        grids: Sequence[Tokens],
        sizes: Sequence[tuple[int, int]],
        choice: Mask,
        progress: Progress,
        edges: Sequence[Bits] | None = None,
    ) -> list[Encoded]:
        """Return the files of token grids int32 (h, w), all of one shape.

        ``sizes``: height and width of each image in pixels; ``choice``: the mask; ``edges``: for each grid, the blocks
        of 2x2 tokens that are sent whole, bool (ceil(h/2), ceil(w/2)); by default those that the prior would regenerate
        worst.
        """
        writers = [SymbolWriter() for _ in grids]
        with span("mask"):
            edges = self._edges(grids, choice, progress) if edges is None else edges
            sent = [
                self.write_mask(writer, blocks, choice.mode, grid.shape)
                for writer, blocks, grid in zip(writers, edges, grids, strict=True)
            ]
            seeds = self._seeds(grids, sent, choice, progress)
        ends = [unwrap(end) for end in self.prior.encode_many(grids, sent, writers, progress, seeds)]
        with span("file"):
            return [
                Encoded(self.pack(writer, size, end, replace(choice, seed=seed)), end, bits)
                for writer, size, end, bits, seed in zip(writers, sizes, ends, sent, seeds, strict=True)
            ]

    def parse(self, data: bytes) -> File:
        """Return header and payload of a file; raises a :class:`UigcError` unless this codec can decode it."""
        with span("header"):
            header, payload = bitstream.unpack(data)
            self.accept(header)
        return header, payload

    def accept(self, header: Header) -> None:
        """Raise a :class:`UigcError` for the header of a file of another prior, or of too large an image."""
        own = self.bundle.prior_id[: bitstream.PRIOR_ID_BYTES]
        if header.prior_id != own:
            raise PriorMismatchError(
                f"The file was written with the prior {header.prior_id.hex()} and this bundle holds {own.hex()}; "
                "use the bundle that wrote it (--bundle)."
            )
        self.limits.check(header.width, header.height)

    def decode(self, files: Sequence[File], progress: Progress) -> list[Tokens | UigcError]:
        """Return the token grid int32 (h, w) of each parsed file, or the error that it fails with.

        The grids of all files have one shape; lost tokens are regenerated.
        """
        decodings = [_Decoding(header, SymbolReader(payload)) for header, payload in files]
        with span("mask"):
            for decoding in decodings:
                self._attempt(self._read_mask, decoding)
        self._read_tokens([decoding for decoding in decodings if decoding.failure is None], progress)
        with span("check"):
            for decoding in decodings:
                self._attempt(self._expect_check, decoding)
        return [decoding.outcome for decoding in decodings]

    def expect_decodable(self, encoded: Sequence[Encoded], writer: str) -> None:
        """Decode files of one grid shape; raises an :class:`InexactError` that names the ``writer`` if one fails."""
        for found, wanted in zip(
            self.decode([self.parse(each.data) for each in encoded], silent), encoded, strict=True
        ):
            if isinstance(found, UigcError) or not np.array_equal(found, wanted.grid):
                raise InexactError(
                    f"The provider {writer!r} did not compute the prior exactly: its file does not decode on the "
                    f"provider {providers.DEFAULT!r} and is not kept; compress with that one, and report {writer!r}."
                )

    @staticmethod
    def _attempt(step: Callable[[_Decoding], None], decoding: _Decoding) -> None:
        """Take a step of a decoding that has not failed, and keep the error that it fails with."""
        if decoding.failure is None:
            try:
                step(decoding)
            except UigcError as error:
                decoding.failure = error

    def read_mask(self, header: Header, reader: SymbolReader) -> Bits:
        """Read the edge bits of a file, and return which of its tokens are sent."""
        shape = grid_shape(header.height, header.width, self.bundle.patch)
        edges = np.zeros(mask.block_shape(*shape), dtype=bool)
        if header.mode is not MaskMode.ENTIRE:
            edges = mask_coding.read_bits(reader, edges.shape, self._mask_models)
        return mask.sent_tokens(header.mode, edges, self.bundle.schedule, *shape)

    def _read_mask(self, decoding: _Decoding) -> None:
        decoding.sent = self.read_mask(decoding.header, decoding.reader)

    def _read_tokens(self, decodings: Sequence[_Decoding], progress: Progress) -> None:
        """Take all decodings through the stages in one batch."""
        if not decodings:
            return
        sent = [decoding.sent for decoding in decodings if decoding.sent is not None]
        readers = [decoding.reader for decoding in decodings]
        seeds = [decoding.header.seed for decoding in decodings]
        ends = self.prior.decode_many(sent, readers, progress, seeds)
        for decoding, end in zip(decodings, ends, strict=True):
            if isinstance(end, UigcError):
                decoding.failure = end
            else:
                decoding.grid = end

    @staticmethod
    def _expect_check(decoding: _Decoding) -> None:
        assert decoding.grid is not None
        decoding.reader.expect_check(check_of(decoding.grid))

    def _edges(self, grids: Sequence[Tokens], choice: Mask, progress: Progress) -> list[Bits]:
        """Choose the blocks of each grid that are sent whole: those that the decoder would regenerate worst."""
        nothing = np.zeros(mask.block_shape(*grids[0].shape), dtype=bool)
        if choice.mode is MaskMode.ENTIRE:
            return [nothing for _ in grids]
        sent = mask.sent_tokens(choice.mode, nothing, self.bundle.schedule, *grids[0].shape)
        regenerated = self.prior.regenerate(grids, [sent for _ in grids], choice.seed)
        codewords = self.bundle.codewords
        edges = [
            lost_blocks(grid, other, codewords, choice.share) for grid, other in zip(grids, regenerated, strict=True)
        ]
        if choice.effort == 1:
            return edges
        counts = [int(bits.sum()) for bits in edges]  # as many as without a search, and better ones
        orders = ranked_blocks(self.prior, codewords, grids, regenerated, choice, needed=counts, progress=progress)
        return [first_blocks(*each, nothing.shape) for each in zip(orders, counts, strict=True)]

    def _seeds(
        self, grids: Sequence[Tokens], sent: Sequence[Bits], choice: Mask, progress: Progress
    ) -> list[int | None]:
        """Choose the seed of each grid that lost tokens are drawn with; None where they are not drawn."""
        if choice.seed is None:
            return [None for _ in grids]
        return list(best_seeds(self.prior, self.bundle.codewords, grids, sent, choice, progress))

    def check_grid(self, tokens: Tokens, height: int, width: int) -> None:
        """Raise a :class:`UsageError` unless a grid is that of an image of this size, with codewords of the bundle."""
        shape, codebook = grid_shape(height, width, self.bundle.patch), self.bundle.codebook
        fits = isinstance(tokens, np.ndarray) and tokens.dtype == np.int32 and tokens.shape == shape
        if not fits or tokens.min() < 0 or tokens.max() >= codebook:
            raise UsageError(
                f"The token grid does not fit the image: int32 {shape} with codewords from 0 to {codebook - 1} is "
                "needed; give the grid that Codec.tokenize returns for it."
            )

    def write_mask(self, writer: SymbolWriter, edges: Bits, mode: MaskMode, shape: tuple[int, ...]) -> Bits:
        """Write the edge bits of a grid, and return which of its tokens are sent."""
        if mode is not MaskMode.ENTIRE:
            mask_coding.write_bits(writer, edges, self.mask_table)
        return mask.sent_tokens(mode, edges, self.bundle.schedule, *shape)

    def pack(self, writer: SymbolWriter, size: tuple[int, int], grid: Tokens, choice: Mask) -> bytes:
        """Write the check of the decoder's grid, and return the bytes of the file."""
        writer.write_check(check_of(grid))
        height, width = size
        prior_id = self.bundle.prior_id[: bitstream.PRIOR_ID_BYTES]
        return bitstream.pack(Header(width, height, choice.mode, prior_id, seed=choice.seed), writer.finish())


def check_of(grid: Tokens) -> int:
    """Return 16 bits of the CRC-32 of the grid's tokens as big-endian int32."""
    return zlib.crc32(grid.astype(">i4").tobytes()) & 0xFFFF
