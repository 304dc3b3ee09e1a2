"""What an encoder finds with more effort: better blocks, and better seeds, in files that every decoder reads."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import uigc.pillow  # noqa: F401
from tests.conftest import Run
from uigc.runtime.block_search import best_seeds, part_ends, ranked_blocks, seeds_from
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ExitCode, UsageError
from uigc.runtime.format import mask
from uigc.runtime.format.bitstream import read_header
from uigc.runtime.format.block_choice import block_losses
from uigc.runtime.format.mask import EFFORT, Mask
from uigc.runtime.format.mask_mode import MaskMode
from uigc.runtime.format.regeneration import SEEDS
from uigc.runtime.rate_control import Rate

ODD = [(160, 144), (97, 203)]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


def loss(codec: Codec, tokens: np.ndarray, back: np.ndarray) -> int:
    return int(block_losses(tokens, back, codec.bundle.codewords).sum())


def regenerated(codec: Codec, tokens: np.ndarray, choice: Mask, blocks: np.ndarray) -> np.ndarray:
    """What comes back if these blocks are sent."""
    edges = np.zeros(mask.block_shape(*tokens.shape), bool)
    edges.reshape(-1)[blocks] = True
    sent = mask.sent_tokens(choice.mode, edges, codec.bundle.schedule, *tokens.shape)
    return codec.token_codec.prior.regenerate([tokens], [sent], choice.seed)[0]


@pytest.mark.parametrize("choice", [Mask(MaskMode.EDGE_MORE, effort=4), Mask(MaskMode.EDGE, seed=3, effort=3)])
def test_each_part_is_ranked_by_what_comes_back_once_the_blocks_before_it_are_sent(tiny: Codec, choice: Mask) -> None:
    tokens = tiny.tokenize(picture(160, 144))
    nothing = regenerated(tiny, tokens, choice, np.empty(0, np.int64))
    prior, codewords = tiny.token_codec.prior, tiny.bundle.codewords
    (found,) = ranked_blocks(prior, codewords, [tokens], [nothing], choice)
    count = found.size
    assert sorted(found) == list(range(count))
    wanted: list[int] = []
    for end in part_ends(count, choice.effort):
        back = regenerated(tiny, tokens, choice, np.array(wanted, np.int64))
        losses = block_losses(tokens, back, codewords).reshape(-1)
        left = sorted(set(range(count)) - set(wanted), key=lambda block: (-losses[block], block))
        wanted += left[: end - len(wanted)]
    assert found.tolist() == wanted
    (one,) = ranked_blocks(prior, codewords, [tokens], [nothing], Mask(choice.mode, seed=choice.seed))
    assert one.tolist() != wanted  # the search changes something here, and without effort it does nothing:
    assert one.tolist() == np.argsort(-block_losses(tokens, nothing, codewords), axis=None, kind="stable").tolist()
    for needed in (1, count // 3, count):
        (part_of_it,) = ranked_blocks(prior, codewords, [tokens], [nothing], choice, needed=[needed])
        assert part_of_it[:needed].tolist() == wanted[:needed]
        assert sorted(part_of_it) == list(range(count))


def test_the_parts_of_every_effort() -> None:
    """Every effort divides the blocks of small files and of large ones, and the next one divides them further."""
    assert part_ends(384, 1) == [384]
    assert part_ends(384, 2) == [6, 24, 96, 384]
    assert part_ends(384, 3) == [6, 12, 24, 48, 96, 192, 384]
    for count in (1, 2, 35, 384, 1536, 200_000):
        parts = [part_ends(count, effort) for effort in range(1, EFFORT + 1)]
        for fewer, more in itertools.pairwise(parts):
            assert set(fewer) <= set(more)
            assert fewer != more or count < 200
        assert all(ends == sorted(set(ends)) and ends[0] > 0 and ends[-1] == count for ends in parts)
    assert [len(seeds_from(3, effort)) for effort in range(1, EFFORT + 1)] == [1, 2, 4, 8, 16, 32, 64, 128, SEEDS]
    assert seeds_from(254, 3) == [254, 255, 0, 1]


def test_images_of_a_batch_are_searched_each_for_itself(tiny: Codec) -> None:
    images = [picture(160, 144, seed) for seed in range(3)]
    for rate in ({"mask": "edge_more:0.3"}, {"mask": "edge_more:0.2+draw9"}, {"quality": 40}, {"bpp": 0.3}):
        alone = [tiny.compress(image, **rate, effort=4) for image in images]  # type: ignore[arg-type]
        assert list(tiny.compress_many(images, **rate, effort=4, batch=3)) == alone  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [0, 250])
def test_the_seed_is_the_best_of_those_that_are_tried(tiny: Codec, seed: int) -> None:
    grids = [tiny.tokenize(picture(97, 203, number)) for number in range(2)]
    choice = Mask(MaskMode.EDGE_MORE, share=0.2, seed=seed, effort=5)
    edges = [np.random.default_rng(number).random(mask.block_shape(*grids[0].shape)) < 0.2 for number in range(2)]
    sent = [mask.sent_tokens(choice.mode, each, tiny.bundle.schedule, *grids[0].shape) for each in edges]
    prior = tiny.token_codec.prior
    found = best_seeds(prior, tiny.bundle.codewords, grids, sent, choice)
    tried = [(seed + number) % SEEDS for number in range(16)]
    assert any(best != seed for best in found)
    for grid, bits, best in zip(grids, sent, found, strict=True):
        losses = [loss(tiny, grid, prior.regenerate([grid], [bits], each)[0]) for each in tried]
        assert best == tried[int(np.argmin(losses))]


def test_the_sample_comes_back_nearer_with_more_effort(sample: np.ndarray) -> None:
    """By codewords, at the same number of blocks. More effort is no promise for every image; for this one it holds."""
    with Codec() as codec:
        tokens = codec.tokenize(sample)
        for text in ("edge_more:0.3", "edge_more:0+draw"):
            choices = [replace(Mask.parse(text), effort=effort) for effort in (1, 3, 6)]
            losses = [loss(codec, tokens, codec.encode_tokens(tokens, sample, choice).grid) for choice in choices]
            assert losses == sorted(losses, reverse=True)
            assert losses[0] > losses[2]


@pytest.mark.parametrize("size", ODD)
def test_files_of_any_effort_hold_their_limits_and_decode(tiny: Codec, size: tuple[int, int]) -> None:
    image, before = picture(*size), None
    for quality in (1, 25, 50, 75, 99):
        encoded = tiny.encode(image, Rate(quality=quality, effort=5))
        assert np.array_equal(tiny.decode_tokens(encoded.data), encoded.grid)
        assert before is None or (before <= encoded.sent).all()  # the same tokens, and more
        before = encoded.sent
    least, most = (len(tiny.compress(image, quality=quality)) for quality in (0, 100))
    for budget in range(least, most, max(1, (most - least) // 4)):
        encoded = tiny.encode(image, Rate(size=budget, effort=5))
        assert len(encoded.data) <= budget
        assert np.array_equal(tiny.decode_tokens(encoded.data), encoded.grid)
    drawn = tiny.encode(image, Mask(MaskMode.EDGE_MORE, seed=4, effort=9))
    assert np.array_equal(tiny.decode_tokens(drawn.data), drawn.grid)


def test_every_effort_changes_files_of_every_size(sample: np.ndarray) -> None:
    """Of the photograph; those of effort 1 are in the golden files."""
    with Codec() as codec:
        tokens = codec.tokenize(sample)
        for text in ("edge", "edge_more:0.1"):
            choice = Mask.parse(text)
            files = [codec.encode_tokens(tokens, sample, replace(choice, effort=effort)).data for effort in (1, 2, 4)]
            assert len(set(files)) == 3


@pytest.mark.parametrize("effort", [0, 10, -1, 2.5, True, "3", None])
def test_efforts_out_of_range_are_refused(tiny: Codec, effort: object) -> None:
    image = picture(32, 32)
    for rate in ({}, {"quality": 50}):
        with pytest.raises(UsageError, match="whole number from 1 to 9"):
            tiny.compress(image, **rate, effort=effort)  # type: ignore[arg-type]
    for make in (lambda: Rate(quality=50, effort=effort), lambda: Mask(MaskMode.EDGE, effort=effort)):  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="whole number from 1 to 9"):
            make()


@pytest.mark.parametrize(
    "text", ["entire", "edge@gradient", "edge_more:0.2@gradient", "edge_more:0", "edge:1", "edge_more:1+draw"]
)
def test_effort_that_would_change_nothing_is_refused(tiny: Codec, text: str) -> None:
    image = picture(96, 128)
    with pytest.raises(UsageError, match="nothing to search for"):
        tiny.compress(image, text, effort=2)
    for quality in (0, 100):
        with pytest.raises(UsageError, match=f"q{quality} leaves nothing to search for"):
            tiny.compress(image, quality=quality, effort=2)
    if "gradient" in text:  # a seed is searched for
        seeds = {read_header(tiny.compress(image, f"{text}+draw", effort=effort)).seed for effort in (1, 9)}
        assert seeds > {0}


def test_numbers_of_numpy_are_efforts(tiny: Codec) -> None:
    image = picture(96, 128)
    assert tiny.compress(image, effort=np.int64(3)) == tiny.compress(image, effort=3)  # type: ignore[arg-type]


def test_the_command_line_and_pillow(uigc: Run, tiny: Codec, tiny_path: Path, tmp_path: Path) -> None:
    image = picture(96, 128)
    source = tmp_path / "a.png"
    Image.fromarray(image).save(source)
    wanted = tiny.compress(image, quality=40, effort=6)
    assert wanted != tiny.compress(image, quality=40)
    done = uigc("compress", source, "a.uigc", "--bundle", tiny_path, "-q", 40, "--effort", 6)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.uigc").read_bytes() == wanted
    Image.fromarray(image).save(tmp_path / "b.uigc", bundle=tiny_path, quality=40, effort=6)
    assert (tmp_path / "b.uigc").read_bytes() == wanted
    assert uigc("compress", source, "c.uigc", "--effort", 10).returncode == ExitCode.USAGE
    refused = uigc("compress", source, "c.uigc", "--bundle", tiny_path, "--mask", "entire", "--effort", 2)
    assert refused.returncode == ExitCode.USAGE
    assert b"would change nothing" in refused.stderr
    assert not (tmp_path / "c.uigc").exists()


def test_large_images_in_tiles_are_searched_with_the_same_result(tiny_path: Path, tiny: Codec) -> None:
    image = picture(400, 600)
    small = Codec(tiny_path, max_memory=1 << 20)
    for rate in ({"mask": "edge_more:0.3"}, {"mask": "edge_more:0+draw"}):
        found = small.compress(image, **rate, effort=3)  # type: ignore[arg-type]
        assert found == tiny.compress(image, **rate, effort=3)  # type: ignore[arg-type]
