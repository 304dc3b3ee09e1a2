"""Parts of an image make the same whole: equal tokens, equal logits, pixels that differ by rounding at most."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.tiny import QUARTER_TOKENIZER, TINY_TOKENIZER, tiny_modules
from uigc.bench import tiles as bench
from uigc.export.modules.tokenizer import TokenizerConfig
from uigc.export.receptive_field import halos
from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import Codec
from uigc.runtime.networks.pixel_networks import PixelNetworks
from uigc.runtime.networks.tiling import bands, tiles, tokens_within, windows_within

RNG = np.random.default_rng(5)


@pytest.mark.parametrize(("length", "most", "halo"), [(1, 1, 0), (50, 50, 7), (50, 20, 7), (97, 23, 5), (200, 17, 8)])
def test_bands_cover_an_axis_once_and_see_their_halo(length: int, most: int, halo: int) -> None:
    parts = bands(length, most, halo)
    assert [part.begin for part in parts] == [0, *(part.end for part in parts[:-1])]
    assert parts[-1].end == length
    for part in parts:
        assert part.end > part.begin
        assert part.high - part.low <= most
        assert part.low == max(0, part.begin - halo)
        assert part.high == min(length, part.end + halo)
        assert np.arange(part.low, part.high)[part.inside()].tolist() == list(range(part.begin, part.end))


def test_tiles_cover_a_grid_once_within_the_limit() -> None:
    for height, width, most, halo in [(40, 60, 900, 5), (300, 20, 1000, 9), (20, 300, 1000, 9), (64, 64, 4096, 9)]:
        seen = np.zeros((height, width), dtype=int)
        parts = tiles(height, width, most, halo, 8)
        for rows, columns in parts:
            seen[rows.own(), columns.own()] += 1
            assert (rows.high - rows.low) * (columns.high - columns.low) <= max(most, (2 * halo + 8) ** 2)
        assert (seen == 1).all()
        assert (len(parts) > 1) == (height * width > most)


@pytest.mark.parametrize("config", [TINY_TOKENIZER, QUARTER_TOKENIZER], ids=["half", "quarter"])
def test_the_halo_is_how_far_the_networks_look(config: TokenizerConfig) -> None:
    """One conv of the tiny decoder sees one token each way at 1/16, two of a block two; half and a quarter beyond."""
    tokenizer, _ = tiny_modules(0, config)
    found = halos(tokenizer)
    assert found["decoder"] == 5  # 1 + 2 tokens, 2 halves, 2 quarters, 3 eighths: 4.875; or 3 quarters: 4.75
    assert 3 <= found["encoder"] <= 5
    tokenizer.decoder.layers.append(torch.nn.GroupNorm(1, 3))
    assert halos(tokenizer)["decoder"] is None


@pytest.fixture
def parted(tiny: Codec) -> Codec:
    """The same codec with hardly any memory."""
    codec = Codec(tiny.bundle, threads=1, max_memory=1)
    assert codec.token_codec.prior.max_windows == 1
    return codec


def test_pixels_and_tokens_of_tiles_are_those_of_the_whole(tiny: Codec, parted: Codec) -> None:
    pixels = RNG.integers(0, 256, (37 * 16, 45 * 16, 3), dtype=np.uint8)
    steps: list[tuple[str, int, int]] = []
    grids = parted.pixel_networks.tokenize([pixels, pixels[::-1].copy()], lambda *step: steps.append(step))
    assert np.array_equal(grids, tiny.pixel_networks.tokenize([pixels, pixels[::-1].copy()]))
    assert len(steps) > 9
    whole, parts = (codec.pixel_networks.detokenize(list(grids)) for codec in (tiny, parted))
    for one, other in zip(whole, parts, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1  # a float's rounding, at the edge of a level


def test_a_smaller_halo_would_show(tiny: Codec) -> None:
    grid = RNG.integers(0, 16, (40, 40), dtype=np.int32)
    whole = tiny.detokenize(grid).astype(int)
    for name, halo in tiny.bundle.halos.items():
        assert halo > 2, name
    short = PixelNetworks(tiny._graphs, 16, tiny.bundle.codebook, 1, {"decoder": tiny.bundle.halos["decoder"] - 3})
    assert np.abs(short.detokenize([grid])[0].astype(int) - whole).max() > 1


@pytest.mark.parametrize("shape", [(40, 24), (24, 61), (96, 8)])
def test_logits_of_tiles_of_windows_are_those_of_the_whole(tiny: Codec, parted: Codec, shape: tuple[int, int]) -> None:
    tokens = RNG.integers(0, tiny.bundle.pad + 1, (2, shape[0], shape[1] + -shape[1] % 8), dtype=np.int32)
    for stage in range(6):
        graph = tiny.token_codec.prior.load(stage)
        assert np.array_equal(parted.token_codec.prior._predictions(graph, tokens, stage), graph(tokens))


def test_a_shorter_halo_of_windows_would_show(tiny: Codec) -> None:
    from dataclasses import replace

    tokens = RNG.integers(0, tiny.bundle.codebook, (1, 64, 16), dtype=np.int32)
    blind = replace(tiny.token_codec.prior, max_windows=1, halo=0)
    graph = tiny.token_codec.prior.load(5)
    assert not np.array_equal(blind._predictions(graph, tokens, 5), graph(tokens))


def test_files_do_not_depend_on_the_memory(tiny: Codec, parted: Codec) -> None:
    pixels = np.repeat(np.repeat(RNG.integers(0, 256, (50, 30, 3), dtype=np.uint8), 9, 0), 9, 1)
    for mask in ("entire", "edge_more"):
        data = tiny.compress(pixels, mask)
        assert parted.compress(pixels, mask) == data
        assert np.array_equal(parted.decode_tokens(data), tiny.decode_tokens(data))
        assert parted.decompress(data).shape == pixels.shape


def test_memory_is_shared_out() -> None:
    assert tokens_within(2 << 30) > 20_000
    assert windows_within(2 << 30, 16, 4, 256) > windows_within(1 << 30, 16, 4, 256) > 50
    assert tokens_within(0) == windows_within(0, 16, 4, 256) == 1


def test_bundles_that_do_not_say_are_worked_on_whole(tiny: Codec) -> None:
    manifest = {**tiny.bundle.manifest, "graphs": {name: dict(g) for name, g in tiny.bundle.manifest["graphs"].items()}}
    for name in ("encoder", "decoder"):
        del manifest["graphs"][name]["halo"]
    bundle = Bundle(tiny.bundle.path, manifest, tiny.bundle.schedule)
    assert bundle.halos == {}
    steps: list[tuple[str, int, int]] = []
    Codec(bundle, threads=1, max_memory=1).pixel_networks.detokenize(
        [np.zeros((30, 30), np.int32)], lambda *step: steps.append(step)
    )
    assert steps == [("decoder", 0, 1), ("decoder", 1, 1)]
    assert len(list(itertools.chain(tiles(30, 30, 900, 0, 8)))) == 1


def test_limits_side_by_side(tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--bundle", str(tiny_path), "--threads", "1", "--size", "900x700", "--json", str(tmp_path / "t.json")]
    with pytest.raises(SystemExit) as ended:
        bench.main([*options, "--limits", "2048", "1"])
    assert ended.value.code == 0
    assert "1 distinct contents of 2 files" in capsys.readouterr().out
    result = json.loads((tmp_path / "t.json").read_text())
    small, large = result["points"]
    assert (small["megabytes"], large["tiles"]) == (1, {"encoder": 1, "decoder": 1})
    assert min(small["tiles"].values()) > 1
    assert small["file_sha256"] == large["file_sha256"]
    assert result["pixels_against_the_last"]["1"]["largest"] <= 1
    assert large["peak_bytes"] >= large["encode_peak_bytes"] > 10e6


def test_what_differs_is_counted(tmp_path: Path) -> None:
    one = np.zeros((300, 2, 3), np.uint8)
    other = one.copy()
    other[299, 1], other[0, 0, 0] = (3, 0, 1), 1
    for limit, painted in ((1, one), (2, other)):
        np.save(tmp_path / bench.PAINTED.format(limit), painted)
    assert bench.compared(tmp_path, [1, 2]) == {"1": {"largest": 3, "different": 3, "values": 1800}}
