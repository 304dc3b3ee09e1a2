"""Token grids to files of a rate: one pass through the prior for the smallest file and an estimate, then exact ones.

The smallest file (``edge_more`` with no block kept) is where every search begins. Its pass gives the tokens that come
back in place of the lost ones, which rank the blocks, and the bits that each lost token would cost. The stages that
every file sends whole see the same context in each of them: their symbols are kept, and later passes leave them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Bits, Pixels, Predictions, Tokens
from uigc.runtime.block_search import first_blocks, ranked_blocks
from uigc.runtime.errors import OutOfReachError, UigcError
from uigc.runtime.format import mask, mask_coding
from uigc.runtime.format.block_choice import edge_blocks
from uigc.runtime.format.entropy_coder import Rows
from uigc.runtime.format.grid import pad_to_windows
from uigc.runtime.format.mask import BLOCK, Mask
from uigc.runtime.format.mask_mode import MaskMode
from uigc.runtime.format.range_coder import Symbols, SymbolWriter
from uigc.runtime.networks.pixel_networks import pad_to_patches
from uigc.runtime.networks.stage_cells import Cells
from uigc.runtime.networks.walk import Observer
from uigc.runtime.outcomes import unwrap
from uigc.runtime.progress import Progress
from uigc.runtime.rate_control.rate import Rate
from uigc.runtime.rate_control.search import UNSURE, BudgetSearch, QualitySearch, Search
from uigc.runtime.spans import span
from uigc.runtime.token_codec import Encoded, TokenCodec

MODE = MaskMode.EDGE_MORE
CONTEXT_GAIN = 0.91  # cost of a token of the stages after the first lost one once the blocks are kept; Kodak: 0.90-0.92
SAMPLES = 65  # numbers of blocks for which the bits of the mask are computed; in between they are interpolated


class Recorder(SymbolWriter):
    """Keeps symbols and their tables, to be written into any number of files."""

    def __init__(self) -> None:
        self._parts: list[tuple[Symbols, NDArray[np.float32]]] = []

    def write(self, symbols: Symbols, rows: NDArray[np.float32]) -> None:
        """Keep symbols int32 (n,) with their rows (n, k)."""
        self._parts.append((symbols, rows))

    def replay(self, writer: SymbolWriter) -> None:
        """Write everything that was kept."""
        for symbols, rows in self._parts:
            writer.write(symbols, rows)


@dataclass
class _Image:
    """One image of a batch: ``costs`` (h, w) are the bits of each token."""

    grid: Tokens
    size: tuple[int, int]
    leading: Recorder = field(default_factory=Recorder)
    costs: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    order: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    files: dict[int, Encoded] = field(default_factory=dict)

    @cached_property
    def blocks(self) -> tuple[int, int]:
        return mask.block_shape(*self.grid.shape)

    def edges(self, count: int) -> Bits:
        """Return the edge bits with the first ``count`` blocks of the order."""
        return first_blocks(self.order, count, self.blocks)


def encode(
    codec: TokenCodec, grids: Sequence[Tokens], images: Sequence[Pixels], choice: Mask | Rate, progress: Progress
) -> list[Encoded | UigcError]:
    """Return the files of token grids int32 (h, w) of one shape, and for a rate that is too small its error.

    ``images``: uint8 (H, W, 3), which give sizes and gradients. ``choice``: a mask, or the rate to reach.
    """
    sizes = [(pixels.shape[0], pixels.shape[1]) for pixels in images]
    if isinstance(choice, Rate):
        return _Encoding(codec, grids, sizes, choice, progress).run()
    edges = None
    if choice.mode is not MaskMode.ENTIRE and choice.by == "gradient":
        patch = codec.bundle.patch
        with span("mask"):
            edges = [edge_blocks(pad_to_patches(pixels, patch), patch, choice.share) for pixels in images]
    return list(codec.encode(grids, sizes, choice, progress, edges))


class _Encoding:
    """The search for the files of one batch: its images propose what to try, and are tried together."""

    def __init__(
        self,
        codec: TokenCodec,
        grids: Sequence[Tokens],
        sizes: Sequence[tuple[int, int]],
        rate: Rate,
        progress: Progress,
    ) -> None:
        self.codec, self.prior, self.rate, self.progress = codec, codec.prior, rate, progress
        self.first = self.prior.schedule.leading(MODE.share_off_edges)
        self.images = [_Image(grid, size) for grid, size in zip(grids, sizes, strict=True)]
        self.shape = grids[0].shape

    def run(self) -> list[Encoded | UigcError]:
        self._survey()
        searches = [self._search(image) for image in self.images]
        while tries := [
            (image, search, count)
            for image, search in zip(self.images, searches, strict=True)
            if (count := search.propose()) is not None
        ]:
            self._try([(image, count) for image, _, count in tries])
            for image, search, count in tries:
                search.sizes[count] = len(image.files[count].data)
        return [self._outcome(image, search) for image, search in zip(self.images, searches, strict=True)]

    def _survey(self) -> None:
        """Make the smallest file of each image, and find the order and the costs of its blocks."""
        nothing = mask.sent_tokens(MODE, self.images[0].edges(0), self.prior.schedule, *self.shape)
        ends = self.prior.encode_many(
            [image.grid for image in self.images],
            [nothing for _ in self.images],
            [image.leading for image in self.images],
            self.progress,
            observers=[self._observer(image) for image in self.images],
        )
        regenerated = [unwrap(end) for end in ends]
        self._rank(regenerated, 1, None)
        for image, end in zip(self.images, regenerated, strict=True):
            image.files[0] = self._file(image, 0, Recorder(), end, nothing)
        if self.rate.effort > 1:
            with span("mask"):
                self._rank(regenerated, self.rate.effort, [self._needed(image) for image in self.images])

    def _rank(self, regenerated: list[Tokens], effort: int, needed: list[int] | None) -> None:
        """Find the order of each image's blocks, from what comes back if none of them is sent."""
        grids, choice = [image.grid for image in self.images], Mask(MODE, effort=effort)
        codewords, progress = self.codec.bundle.codewords, self.progress
        orders = ranked_blocks(self.prior, codewords, grids, regenerated, choice, needed=needed, progress=progress)
        for image, order in zip(self.images, orders, strict=True):
            image.order = order

    def _needed(self, image: _Image) -> int:
        """Return how many blocks the file may have at most, 0 if their order does not matter."""
        every, count = len(image.order), self.rate.blocks(len(image.order))
        if count is not None:
            return 0 if count == every else count
        tokens, edge_bits = self._estimate(image)
        budget, estimate = self.rate.budget(*image.size) or 0, tokens + edge_bits
        if estimate[-1] * (1 + UNSURE) <= budget:
            return 0  # all of them
        return int((estimate * (1 - UNSURE) <= budget).sum())

    def _observer(self, image: _Image) -> Observer:
        padded = pad_to_windows(image.grid, self.prior.window, 0)
        costs = np.zeros(padded.shape)
        image.costs = costs[: self.shape[0], : self.shape[1]]

        def observe(predictions: Predictions, rows: Rows | None, cells: Cells) -> None:
            costs.reshape(-1)[cells] = self.prior.model.costs(predictions, padded.take(cells), rows)

        return observe

    def _search(self, image: _Image) -> Search:
        tokens, edge_bits = self._estimate(image)
        estimate, smallest = tokens + edge_bits, len(image.files[0].data)
        count = self.rate.blocks(len(image.order))
        if count is not None:
            return QualitySearch(estimate, smallest, count, edge_bits)
        budget = self.rate.budget(*image.size)
        assert budget is not None
        return BudgetSearch(estimate, smallest, budget)

    def _estimate(self, image: _Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the modelled bytes (n + 1,) of files with 0..n blocks, in two parts: edge bits last; n has none."""
        stages = self.prior.schedule.stage_of(*self.shape)
        gained = np.where(stages == self.first, 1.0, CONTEXT_GAIN) * np.where(stages < self.first, 0.0, image.costs)
        rows = np.add.reduceat(gained, np.arange(0, self.shape[0], BLOCK), axis=0)
        blocks = np.add.reduceat(rows, np.arange(0, self.shape[1], BLOCK), axis=1).reshape(-1)[image.order]
        tried = np.unique(np.linspace(0, len(blocks), SAMPLES).astype(int))
        probabilities = self.codec.mask_table.astype(np.float64) / (1 << 16)
        bits = np.interp(
            np.arange(len(blocks) + 1),
            tried,
            [_mask_bits(image.edges(count), probabilities) for count in tried],
        )
        bits[-1] = 0.0
        return len(image.files[0].data) + (np.concatenate([[0.0], np.cumsum(blocks)]) - bits[0]) / 8, bits / 8

    def _try(self, tries: Sequence[tuple[_Image, int]]) -> None:
        """Make the files of images with numbers of blocks, in one batch."""
        sent = [self._sent(image, count) for image, count in tries]
        recorders = [Recorder() for _ in tries]
        grids = [image.grid for image, _ in tries]
        ends = self.prior.encode_many(grids, sent, recorders, self.progress, first=self.first)
        with span("file"):
            for (image, count), recorder, end, bits in zip(tries, recorders, ends, sent, strict=True):
                image.files[count] = self._file(image, count, recorder, unwrap(end), bits)

    def _mode(self, image: _Image, count: int) -> MaskMode:
        return MaskMode.ENTIRE if count == len(image.order) else MODE

    def _sent(self, image: _Image, count: int) -> Bits:
        return mask.sent_tokens(self._mode(image, count), image.edges(count), self.prior.schedule, *self.shape)

    def _file(self, image: _Image, count: int, later: Recorder, grid: Tokens, sent: Bits) -> Encoded:
        """Return a file from the recorded symbols of the leading and of the later stages."""
        writer, mode = SymbolWriter(), self._mode(image, count)
        self.codec.write_mask(writer, image.edges(count), mode, self.shape)
        image.leading.replay(writer)
        later.replay(writer)
        return Encoded(self.codec.pack(writer, image.size, grid, Mask(mode)), grid, sent)

    def _outcome(self, image: _Image, search: Search) -> Encoded | UigcError:
        if search.best is not None:
            return image.files[search.best]
        height, width = image.size
        return OutOfReachError(
            f"The smallest file of this image of {width}x{height} pixels has {min(search.sizes.values())} bytes, and "
            f"at most {self.rate.budget(height, width)} were asked for; ask for more, or scale the image down."
        )


def _mask_bits(edges: Bits, probabilities: NDArray[np.float64]) -> float:
    """Return the bits that coding edge bits takes."""
    ones, bits = probabilities[mask_coding.contexts(edges)], edges.reshape(-1)
    return float(-np.log2(np.where(bits, ones, 1 - ones)).sum())
