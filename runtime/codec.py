"""The codec: images to files and back.

It joins the tolerant half, images to token grids (``networks/pixel_networks.py``), with the exact half, token grids to
bytes (``token_codec.py``), on one provider.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from uigc.runtime import providers, rate_control
from uigc.runtime.arrays import Pixels, Tokens
from uigc.runtime.batching import check_counts, in_batches
from uigc.runtime.bundle import Bundle, is_stage
from uigc.runtime.errors import UigcError
from uigc.runtime.format.bitstream import MAX_FILE
from uigc.runtime.format.grid import grid_shape
from uigc.runtime.format.mask import Mask
from uigc.runtime.format.mask_mode import MaskMode
from uigc.runtime.io.inputs import AnyImage, Data, as_pixels, read_data
from uigc.runtime.limits import Limits
from uigc.runtime.networks.byte_images import in_bytes
from uigc.runtime.networks.graph_loader import GraphLoader
from uigc.runtime.networks.pixel_networks import PixelNetworks
from uigc.runtime.networks.tiling import DEFAULT_MEMORY, tokens_within
from uigc.runtime.outcomes import map_ok, unwrap
from uigc.runtime.progress import Progress, silent
from uigc.runtime.providers import Graph, Provider, ProviderOptions
from uigc.runtime.rate_control import Rate
from uigc.runtime.spans import span
from uigc.runtime.token_codec import Encoded, File, TokenCodec, reference_reader, staged_prior
from uigc.runtime.tuning_cache import preferred

DEFAULT_JOBS, DEFAULT_MASK = 2, "edge"
CPU_LOADERS = 2  # graphs that are loaded at a time, where that is work for the CPU alone


class Codec:
    """Compresses and decompresses images with one bundle on one provider.

    Graphs are loaded when first needed. A codec may be used from several threads, in a ``with`` block that closes it,
    and on ``cpu`` in forked processes (on a GPU use ``spawn``, or make it in the child); pickled as its arguments.

    Decides the symbols, and so which files can be read:

    * ``bundle``: a loaded bundle, its folder, or None for the default bundle.

    Change pixels, and which codewords an encoder finds, but never how a file is decoded to tokens:

    * ``provider``: the name of the provider; ``uigc doctor`` lists those that can run here.
    * ``pixel_precision``: precision of encoder and pixel decoder, ``fp32``, ``fp16`` or ``int8``; None for the
      provider's choice.
    * ``optimization``: how far the provider may rewrite graphs, ``all``, ``extended``, ``basic`` or ``off``.
    * ``threads``: threads of each graph in each job; None for the provider's choice, on ``cpu`` all cores.

    Change only speed and memory:

    * ``precision``: precision of the prior, ``fp32`` or ``int8``, of older bundles also ``fp16``; None for the fastest
      (see ``uigc doctor --tune``).
    * ``engines``: folder that ``uigc build`` wrote, for a provider that runs engines.
    * ``device``: which of several GPUs runs the graphs, from 0 on, for a provider that runs on one.
    * ``max_pixels``: refuse larger images; None for 2^28, or 2^22 if the tokenizer looks at the whole image.
    * ``max_memory``: approximate memory budget of the networks in bytes; larger images are processed in tiles, with
      identical symbols.

    Changes only what is refused:

    * ``read_back``: decode every new file on the provider ``cpu`` before returning it, so that no file is written that
      others cannot read; None to do so on every provider but ``cpu``.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str | None = None,
        *,
        provider: str = providers.DEFAULT,
        precision: str | None = None,
        pixel_precision: str | None = None,
        threads: int | None = None,
        optimization: str = "all",
        engines: Path | str | None = None,
        device: int = 0,
        max_pixels: int | None = None,
        max_memory: int = DEFAULT_MEMORY,
        read_back: bool | None = None,
    ) -> None:
        providers.check_options(optimization, threads=threads, max_pixels=max_pixels, max_memory=max_memory)
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle, recompute=False)
        self._arguments: dict[str, Any] = {
            "provider": provider, "precision": precision, "pixel_precision": pixel_precision, "threads": threads,
            "optimization": optimization, "engines": engines, "device": device, "max_pixels": max_pixels,
            "max_memory": max_memory, "read_back": read_back,
        }  # fmt: skip
        self.limits = Limits(self.bundle.local, max_pixels)
        runner = providers.find(provider, None if engines is None else Path(engines))
        providers.check_device(runner, device)
        self._provider, self._max_batch = provider, runner.batch
        self._choose_precisions(runner, device, precision, pixel_precision)
        options = ProviderOptions(threads, optimization, device)
        self._graphs = GraphLoader(partial(self._load, runner, options), 1 if runner.on_gpu else CPU_LOADERS)
        self._stages = [f"stage{stage}" for stage in range(len(self.bundle.schedule))]
        opened, largest = self.bundle, tokens_within(max_memory)
        self.pixel_networks = PixelNetworks(self._graphs, opened.patch, opened.codebook, largest, opened.halos)
        prior = staged_prior(self.bundle, lambda stage: self._graphs(self._stages[stage]), max_memory)
        self.token_codec = TokenCodec(self.bundle, prior, self.limits)
        reads = provider != providers.DEFAULT if read_back is None else read_back
        self._reader = reference_reader(self.bundle, self.limits, max_memory) if reads else None

    def close(self) -> None:
        """Free the graphs; the codec cannot be used any more."""
        with nullcontext() if self._reader is None else closing(self._reader):
            self._graphs.close()

    def __enter__(self) -> Codec:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Codec, **self._arguments), (self.bundle.path,)

    def _choose_precisions(self, runner: Provider, device: int, prior: str | None, pixels: str | None) -> None:
        """Set both precisions: the one asked for, else the fastest measured here, else the provider's first."""
        best = partial(preferred, self.bundle, runner.measured_as(device))
        stages, pixel_graphs = ["stage0"], self.bundle.pixel_graphs
        self.precision = self.bundle.choose(stages, prior, best("precision", runner.precisions, stages))
        offered = best("pixel_precision", runner.pixel_precisions, pixel_graphs)
        self.pixel_precision = self.bundle.choose(pixel_graphs, pixels, offered)

    def _load(self, runner: Provider, options: ProviderOptions, name: str) -> Graph:
        chosen = self.precision if is_stage(name) else self.pixel_precision
        return in_bytes(name, runner.load(self.bundle.graph(name, chosen), options), self.bundle.has_byte_images)

    def compress(
        self,
        image: AnyImage,
        mask: Mask | str | None = None,
        *,
        bpp: float | None = None,
        size: int | None = None,
        quality: float | None = None,
        effort: int = 1,
        progress: Progress = silent,
    ) -> bytes:
        """Return the bytes of a .uigc file for an image.

        ``image``: uint8 (H, W, 3) sRGB or grey (H, W), as a numpy array or whatever numpy reads as one; a PIL image; or
        an encoded image as a path, a buffer of bytes or a binary file.

        ``mask``: which tokens are sent, ``entire``, ``edge`` or ``edge_more`` (see ``docs/FORMAT.md``). After a colon,
        the share of the image that is sent whole, as in ``edge_more:0.2``, makes files of any size in between. After
        ``+draw`` and perhaps a seed, the decoder draws the tokens that are not sent (see ``docs/CLI.md``).

        Instead of a mask (default: ``edge``): at most ``bpp`` bits per pixel, at most ``size`` bytes, or ``quality``
        0..100. Files more than 3 % below their limit are explained by a warning of the logger ``uigc``; an image whose
        smallest file is above it raises an :class:`OutOfReachError`.

        ``effort``: 1..9, how long to search for the tokens that are worth sending; decoding takes the same time.
        """
        choice = rate_control.choose(mask, DEFAULT_MASK, bpp, size, quality, effort)
        return self.encode(image, choice, progress=progress).data

    def decompress(self, file: Data, *, progress: Progress = silent) -> Pixels:
        """Return the image uint8 (H, W, 3) sRGB of a .uigc file: a buffer of bytes, a path or a binary file.

        Raises a :class:`UigcError` rather than return a wrong image.
        """
        return unwrap(self._decode_batch([self._parsed(file)], progress)[0])

    def compress_many(
        self,
        images: Iterable[AnyImage | UigcError],
        mask: Mask | str | None = None,
        *,
        bpp: float | None = None,
        size: int | None = None,
        quality: float | None = None,
        effort: int = 1,
        batch: int | None = None,
        jobs: int = DEFAULT_JOBS,
    ) -> Iterator[bytes | UigcError]:
        """Compress many images, lazily and in order; see :meth:`compress` and :meth:`decompress_many`."""
        choice = rate_control.choose(mask, DEFAULT_MASK, bpp, size, quality, effort)
        check_counts(batch, jobs)
        outcomes = in_batches(
            images,
            prepare=self._validated,
            key=lambda pixels: grid_shape(pixels.shape[0], pixels.shape[1], self.bundle.patch),
            work=lambda group: self._encode_batch(group, choice),
            batch=lambda pixels: self._batch_size(batch, *pixels.shape[:2]),
            jobs=jobs,
        )
        return (each if isinstance(each, UigcError) else rate_control.explained(each, choice).data for each in outcomes)

    def decompress_many(
        self, files: Iterable[Data | UigcError], *, batch: int | None = None, jobs: int = DEFAULT_JOBS
    ) -> Iterator[Pixels | UigcError]:
        """Decompress many files, lazily and in order; see :meth:`decompress`.

        A file that fails gives its :class:`UigcError` in place of an image, and the others go on; an error among the
        ``files`` is passed on in its place, and one that their iterator raises ends the batch. ``batch``: the most
        files of one size that go through the networks together, None for the provider's choice. ``jobs``: the batches
        in progress at a time, each in a thread, so that the range coder of one works while the networks of another run.
        Only what is in progress is held in memory. Neither number changes a byte or a symbol.
        """
        check_counts(batch, jobs)
        return in_batches(
            files,
            prepare=self._parsed,
            key=lambda file: grid_shape(file[0].height, file[0].width, self.bundle.patch),
            work=lambda group: self._decode_batch(group, silent),
            batch=lambda file: self._batch_size(batch, file[0].height, file[0].width),
            jobs=jobs,
        )

    def encode(
        self, image: AnyImage, mask: Mask | Rate | str = DEFAULT_MASK, *, progress: Progress = silent
    ) -> Encoded:
        """Compress an image with a mask or a rate, and return the file with the token grid of its decoder."""
        choice = rate_control.parse(mask)
        encoded = unwrap(self._encode_batch([self._validated(image)], choice, progress)[0])
        return rate_control.explained(encoded, choice)

    def encode_tokens(
        self, tokens: Tokens, pixels: Pixels, mask: Mask | MaskMode | Rate | str, *, progress: Progress = silent
    ) -> Encoded:
        """Return the file of a token grid int32 (h, w) with a mask or a rate, as :meth:`encode` returns it of images.

        ``pixels`` uint8 (H, W, 3) give its size and gradients. Raises a :class:`UsageError` if the grid does not fit.
        """
        self.token_codec.check_grid(tokens, *self._validated(pixels).shape[:2])
        choice = rate_control.parse(mask)
        return rate_control.explained(unwrap(self._encode_grids([tokens], [pixels], choice, progress)[0]), choice)

    def decode_tokens(self, file: Data, *, progress: Progress = silent) -> Tokens:
        """Return the token grid int32 (h, w) of a file, lost tokens regenerated, without decoding it to pixels."""
        return unwrap(self.token_codec.decode([self._parsed(file)], progress)[0])

    def tokenize(self, pixels: Pixels) -> Tokens:
        """Return the token grid int32 (ceil(H/16), ceil(W/16)) of an image uint8 (H, W, 3).

        Borders are extended to whole patches by replication.
        """
        return self.pixel_networks.tokenize([pixels])[0]

    def detokenize(self, grid: Tokens) -> Pixels:
        """Return the image uint8 (16h, 16w, 3) of a token grid int32 (h, w)."""
        return self.pixel_networks.detokenize([grid])[0]

    def _parsed(self, file: Data | UigcError) -> File:
        if isinstance(file, UigcError):
            raise file
        return self.token_codec.parse(read_data(file, MAX_FILE))

    def _validated(self, image: AnyImage | UigcError) -> Pixels:
        """Return the pixels of an image that may be compressed; raises the error in its place."""
        if isinstance(image, UigcError):
            raise image
        return as_pixels(image, self.limits.check)

    def _encode_batch(
        self, images: list[Pixels], choice: Mask | Rate, progress: Progress = silent
    ) -> list[Encoded | UigcError]:
        """Encode images whose token grids have one shape."""
        self._graphs.prefetch(["encoder", *self._stages])
        grids = self.pixel_networks.tokenize(images, progress)
        return self._encode_grids(list(grids), images, choice, progress)

    def _encode_grids(
        self, grids: list[Tokens], images: list[Pixels], choice: Mask | Rate, progress: Progress
    ) -> list[Encoded | UigcError]:
        outcomes = rate_control.encode(self.token_codec, grids, images, choice, progress)
        self.bundle.check_unchanged()
        if self._reader is not None:
            with span("read back"):
                encoded = [each for each in outcomes if isinstance(each, Encoded)]
                self._reader.expect_decodable(encoded, self._provider)
        return outcomes

    def _decode_batch(self, files: list[File], progress: Progress) -> list[Pixels | UigcError]:
        """Decode files whose token grids have one shape."""
        self._graphs.prefetch([self._stages[0], "decoder", *self._stages[1:]])  # the decoder takes longest
        grids = self.token_codec.decode(files, progress)
        images = map_ok(lambda good: self.pixel_networks.detokenize(good, progress), grids)
        self.bundle.check_unchanged()
        return [
            image if isinstance(image, UigcError) else np.ascontiguousarray(image[: header.height, : header.width])
            for image, (header, _) in zip(images, files, strict=True)
        ]

    def _batch_size(self, asked: int | None, height: int, width: int) -> int:
        """Return how many images of a size go through the networks together."""
        return min(self._max_batch if asked is None else asked, self.limits.batch(width, height))
