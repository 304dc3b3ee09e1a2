"""The staged loop and the file, on the tiny bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.tiny import reference_grid, tiny_modules
from uigc.runtime import providers
from uigc.runtime.codec import Codec
from uigc.runtime.errors import (
    BundleError,
    CorruptFileError,
    InexactError,
    InputError,
    PriorMismatchError,
    ProviderError,
    TooLargeError,
    UsageError,
)
from uigc.runtime.exactness.reference import with_sums
from uigc.runtime.format import bitstream
from uigc.runtime.format.entropy_coder import weight_table
from uigc.runtime.format.mask import MODES, block_shape, sent_tokens
from uigc.runtime.format.range_coder import SymbolWriter
from uigc.runtime.providers import Graph

RNG = np.random.default_rng(11)
SIZES = [(1, 1), (1, 40), (63, 65), (65, 63), (16, 16), (128, 128), (300, 17)]


def picture(height: int, width: int) -> np.ndarray:
    coarse = RNG.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, 0).repeat(8, 1)[:height, :width])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_any_size_comes_back(tiny: Codec, size: tuple[int, int], mode: str) -> None:
    image = picture(*size)
    encoded = tiny.encode(image, mode)
    assert tiny.compress(image, mode) == encoded.data
    assert np.array_equal(tiny.decode_tokens(encoded.data), encoded.grid)
    assert tiny.decompress(encoded.data).shape == image.shape
    tokens = tiny.tokenize(image)
    assert np.array_equal(encoded.grid[encoded.sent], tokens[encoded.sent])
    if mode == "entire":
        assert np.array_equal(encoded.grid, tokens)


@pytest.mark.parametrize(("mode", "predicted"), [("edge_more", [3, 4, 5]), ("edge", [4, 5]), ("entire", [])])
def test_what_is_known_of_earlier_stages_is_not_predicted(tiny: Codec, mode: str, predicted: list[int]) -> None:
    tokens, seen = RNG.integers(0, 16, (9, 21), dtype=np.int32), []

    def load(stage: int) -> Graph:
        seen.append(stage)
        return tiny.token_codec.prior.load(stage)

    sent = sent_tokens(MODES[mode], np.zeros(block_shape(*tokens.shape), bool), tiny.bundle.schedule, *tokens.shape)
    (made,) = replace(tiny.token_codec.prior, load=load).regenerate([tokens], [sent])
    assert seen == predicted
    assert np.array_equal(made, tiny.token_codec.prior.encode_many([tokens], [sent], [SymbolWriter()])[0])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("optimization", ["all", "off"])
def test_settings_do_not_change_a_symbol(tiny: Codec, tiny_path: Path, threads: int, optimization: str) -> None:
    other = Codec(tiny_path, threads=threads, optimization=optimization)
    tokens = RNG.integers(0, 16, (9, 21), dtype=np.int32)
    image = picture(9 * 16, 21 * 16)
    for mode in MODES.values():
        encoded = tiny.encode_tokens(tokens, image, mode)
        assert other.encode_tokens(tokens, image, mode).data == encoded.data
        assert np.array_equal(other.decode_tokens(encoded.data), encoded.grid)


def test_lost_tokens_are_the_most_likely_ones(tiny: Codec) -> None:
    """The grid by a plain re-statement of the loop in PyTorch, token by token."""
    import torch

    prior = tiny_modules(0)[1].prior.freeze()
    schedule = prior.schedule
    tokens = RNG.integers(0, 16, (8, 8), dtype=np.int32)
    sent = RNG.random((8, 8)) < 0.5
    expected, context = np.full((8, 8), -1), np.full((8, 8), 16)
    for stage, positions in enumerate(schedule.stages):
        logits = prior(torch.from_numpy(context)[None], stage)[0].detach().numpy()
        rows = iter(logits)
        asked = [(r + y, c + x) for r in (0, 4) for c in (0, 4) for y, x in positions]
        for place in asked:
            row = next(rows)
            expected[place] = tokens[place] if sent[place] else int(np.argmax(row))
        for place in asked:
            context[place] = tokens[place] if sent[place] else 16
    grid = tiny.token_codec.prior.encode_many([tokens], [sent], [SymbolWriter()])[0]
    assert np.array_equal(grid, expected)


@pytest.mark.parametrize("mode", [*MODES, "edge+draw", "edge_more:0+draw255"])
def test_a_decoder_written_from_the_page_alone_agrees(tiny: Codec, mode: str) -> None:
    for size in ((1, 1), (150, 90)):
        encoded = tiny.encode(picture(*size), mode)
        assert reference_grid(tiny, encoded.data) == encoded.grid.tolist()


def test_files_are_small_and_self_contained(tiny: Codec) -> None:
    encoded = tiny.encode(picture(128, 128), "entire")
    header, payload = bitstream.unpack(encoded.data)
    assert (header.width, header.height, header.mode.label) == (128, 128, "entire")
    assert len(encoded.data) - len(payload) <= 20


def test_arrays_and_pillow_images_are_the_same(tiny: Codec) -> None:
    image = picture(40, 30)
    assert tiny.compress(Image.fromarray(image)) == tiny.compress(image)


@pytest.mark.parametrize("array", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_other_arrays_are_refused(tiny: Codec, array: np.ndarray) -> None:
    with pytest.raises(InputError, match="not an image"):
        tiny.compress(array)


def test_limits_and_modes(tiny: Codec, tiny_path: Path) -> None:
    with pytest.raises(UsageError, match="choose one of: entire, edge, edge_more"):
        tiny.compress(picture(8, 8), mask="edges")
    with pytest.raises(TooLargeError):
        tiny.compress(np.zeros((0, 5, 3), np.uint8))
    data = tiny.compress(picture(64, 64))
    small = Codec(tiny_path, max_pixels=1000)
    for call in (lambda: small.compress(picture(64, 64)), lambda: small.decompress(data)):
        with pytest.raises(TooLargeError, match="64x64"):
            call()


def test_another_prior_is_refused(tiny: Codec) -> None:
    header, payload = bitstream.unpack(tiny.compress(picture(32, 32)))
    other = bitstream.Header(header.width, header.height, header.mode, b"\1\2\3\4")
    with pytest.raises(PriorMismatchError, match="01020304"):
        tiny.decompress(bitstream.pack(other, payload))


def test_the_pixels_precision(tiny: Codec, tiny_path: Path) -> None:
    """Asked for, it is what runs; the symbols of a grid are the same; what is not there is an error."""
    image = picture(70, 90)
    half = Codec(tiny_path, pixel_precision="fp16")
    grid = tiny.tokenize(image)
    assert (tiny.pixel_precision, half.pixel_precision) == ("fp32", "fp16")
    data = tiny.encode_tokens(grid, image, MODES["edge"]).data
    assert half.encode_tokens(grid, image, MODES["edge"]).data == data
    ours, theirs = tiny.decompress(data).astype(int), half.decompress(data).astype(int)
    assert 0 < np.abs(ours - theirs).max() < 8  # other graphs, hardly other pixels
    assert (half.tokenize(image) == grid).mean() > 0.9
    with pytest.raises(BundleError, match=r"no encoder and decoder in 'int8'; run 'uigc calibrate .* fp32, fp16\."):
        Codec(tiny_path, pixel_precision="int8")


def test_damage_is_refused(tiny: Codec) -> None:
    data = tiny.compress(picture(48, 48))
    with pytest.raises(CorruptFileError):
        tiny.decompress(data[:-1])


class Inexact(providers.Provider):
    """One logit of one token is off."""

    name = "inexact"

    def __init__(self, cpu: providers.Provider) -> None:
        self._cpu = cpu

    def problem(self) -> None:
        return None

    def load(self, path: Path, options: providers.ProviderOptions) -> Graph:
        graph = self._cpu.load(path, options)
        return Off(graph) if path.name.startswith("stage2") else graph


class Off(Graph):
    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def __call__(self, value: np.ndarray) -> np.ndarray:
        predictions = self._graph(value).copy()
        logits = predictions[..., :16]
        logits[0, 0, 3] += 40
        return with_sums(logits, weight_table())


@pytest.fixture
def inexact(monkeypatch: pytest.MonkeyPatch) -> Inexact:
    cpu = providers.find("cpu")
    found = {"cpu": cpu, "inexact": Inexact(cpu)}
    monkeypatch.setattr(providers, "find", lambda name, engines=None: found[name])
    return found["inexact"]


def test_an_inexact_decoder_is_caught(tiny: Codec, tiny_path: Path, inexact: Inexact) -> None:
    """No wrong image may come out as success."""
    codec, caught = Codec(tiny_path, provider="inexact"), 0
    for _ in range(20):
        encoded = tiny.encode(picture(200, 120), "edge_more")
        try:
            assert np.array_equal(codec.decode_tokens(encoded.data), encoded.grid)
        except InexactError:
            caught += 1
    assert caught >= 10


def test_an_inexact_encoder_keeps_nothing(tiny: Codec, tiny_path: Path, inexact: Inexact) -> None:
    """Whatever an encoder off ``cpu`` returns decodes everywhere; only who asks for it gets an unchecked file."""
    codec, trusting = (Codec(tiny_path, provider="inexact", read_back=each) for each in (None, False))
    images = [picture(200, 120) for _ in range(20)]
    read = list(tiny.decompress_many(codec.compress_many(images, "edge_more")))
    refused = [str(each) for each in read if isinstance(each, InexactError)]
    assert all("'inexact' did not compute" in each for each in refused)
    unchecked = list(tiny.decompress_many(trusting.compress_many(images, "edge_more")))
    assert len(refused) == sum(isinstance(each, InexactError) for each in unchecked) >= 10
    assert all(isinstance(each, InexactError | bytes) for each in codec.compress_many([picture(200, 120)] * 3))


def test_what_reads_back_is_closed_with_the_codec(tiny_path: Path) -> None:
    codec = Codec(tiny_path, read_back=True)
    codec.compress(picture(48, 48))
    reader = codec._reader
    assert reader is not None
    codec.close()
    with pytest.raises(UsageError, match="The codec is closed"):
        reader.prior.load(0)


def test_arguments_that_make_no_sense(tiny: Codec, tiny_path: Path) -> None:
    for argument in ("threads", "max_pixels", "max_memory"):
        for value in (0, -1, 1.5):
            with pytest.raises(UsageError, match=argument):
                Codec(tiny_path, **{argument: value})
    image = picture(40, 60)
    grid = tiny.tokenize(image)
    assert tiny.encode_tokens(grid, image, "edge").data == tiny.compress(image, "edge")
    wrong = [
        grid[:-1],
        grid.astype(np.int64),
        grid - 100,
        grid + 16,
        grid[None],
        grid.tolist(),
        np.zeros((0, 0), np.int32),
    ]
    for tokens in wrong:
        with pytest.raises(UsageError, match="does not fit the image"):
            tiny.encode_tokens(tokens, image, "edge")


def test_random_payloads_end_in_an_error_of_ours(tiny: Codec) -> None:
    prior = tiny.bundle.prior_id[:4]
    for mode in MODES.values():
        for _ in range(30):
            payload = RNG.bytes(int(RNG.integers(0, 60)))
            with pytest.raises(InexactError):
                tiny.decompress(bitstream.pack(bitstream.Header(100, 90, mode, prior), payload))


def test_unknown_and_missing_providers(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProviderError, match="choose one of: cpu, cuda"):
        Codec(tiny_path, provider="tpu")
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ProviderError, match=r"uigc\[gpu\]"):
        Codec(tiny_path, provider="cuda")
    with pytest.raises(ProviderError, match=r"uigc\[cpu\]"):
        Codec(tiny_path, provider="cpu")


def test_a_graph_that_fails_is_an_error_of_ours(tiny: Codec) -> None:
    with pytest.raises(ProviderError, match="failed on an input"):
        tiny.token_codec.prior.load(0)(np.zeros((1, 7, 9), np.int32))


def test_progress_counts_up(tiny: Codec) -> None:
    seen: list[tuple[str, int, int]] = []
    data = tiny.compress(picture(20, 20), progress=lambda *step: seen.append(step))
    tiny.decompress(data, progress=lambda *step: seen.append(step))
    assert seen[0] == ("encoder", 0, 1)
    assert ("prior", 6, 6) in seen
    assert seen[-1] == ("decoder", 1, 1)
