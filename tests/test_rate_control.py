"""Files of a size or a quality that is asked for."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import uigc.pillow
from uigc.runtime import rate_control
from uigc.runtime.codec import Codec
from uigc.runtime.errors import UigcError, UsageError
from uigc.runtime.format.bitstream import read_header
from uigc.runtime.format.mask import MODES
from uigc.runtime.rate_control import Rate, shortfall
from uigc.runtime.rate_control.search import FEW, BudgetSearch, QualitySearch, Search

PROPERTY = settings(derandomize=True, deadline=None, database=None, max_examples=40)
SIDES = st.integers(1, 200)
ODD = [(97, 203), (160, 144), (33, 17)]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise over waves: every token differs from its neighbours."""
    waves = np.add.outer(np.sin(np.arange(height) / 7), np.cos(np.arange(width) / 11))[..., None] * (40, 60, 30)
    noise = np.random.default_rng(seed).normal(0, 30, (height, width, 3))
    return np.clip(128 + waves + noise, 0, 255).astype(np.uint8)


def run(search: Search, sizes: list[int]) -> int:
    """Tell a search the sizes that it asks for, and return how many it asked for."""
    asked = 0
    while (count := search.propose()) is not None:
        assert count not in search.sizes
        search.sizes[count] = sizes[count]
        asked += 1
    return asked


@st.composite
def curves(draw: st.DrawFn) -> tuple[list[int], np.ndarray]:
    """Sizes that rise, except to the last one, and an estimate that is wrong by up to 30 %."""
    steps = draw(st.lists(st.integers(0, 12), min_size=1, max_size=400))
    sizes = np.cumsum([draw(st.integers(20, 300)), *steps])
    sizes[-1] -= draw(st.integers(0, 30))
    wrong = draw(st.floats(0.7, 1.3))
    return sizes.tolist(), sizes[0] + (sizes - sizes[0]) * wrong


@PROPERTY
@given(curves(), st.integers(1, 3000))
def test_the_search_never_passes_the_budget_and_ends_near_it(curve: tuple[list[int], np.ndarray], budget: int) -> None:
    sizes, estimate = curve
    search = BudgetSearch(estimate, sizes[0], budget)
    asked = run(search, sizes)
    assert asked <= 5 + len(sizes).bit_length()
    if search.best is None:
        assert sizes[0] > budget
        return
    assert sizes[search.best] <= budget
    near = sizes[search.best] >= 0.97 * budget
    assert near or search.best == len(sizes) - 1 or sizes[search.best + 1] > budget


@PROPERTY
@given(curves(), st.floats(0, 100), st.floats(0, 100), st.floats(0.7, 1.3))
def test_the_size_rises_with_the_quality(
    curve: tuple[list[int], np.ndarray], one: float, other: float, wrong: float
) -> None:
    sizes, _ = curve
    edge_bits = np.append(np.full(len(sizes) - 1, 30.0), 0.0)
    tokens = np.array(sizes) - edge_bits
    estimate = tokens[0] + (tokens - tokens[0]) * wrong + edge_bits
    found = []
    for quality in sorted((one, other)):
        search = QualitySearch(estimate, sizes[0], round(quality / 100 * (len(estimate) - 1)), edge_bits)
        run(search, sizes)
        assert search.best is not None
        found.append((sizes[search.best], search.best))
    assert found == sorted(found)


def test_a_quality_far_from_all_blocks_needs_one_file() -> None:
    edge_bits = np.append(np.full(1000, 30.0), 0.0)
    sizes = (400 + 0.5 * np.arange(1001) + edge_bits).astype(int)
    searches = {count: QualitySearch(sizes.astype(float), 430, count, edge_bits) for count in (700, 900)}
    asked = {count: run(search, sizes.tolist()) for count, search in searches.items()}
    assert asked == {700: 1, 900: 2}


@pytest.mark.parametrize("size", ODD)
def test_files_hold_their_limits_and_decode(tiny: Codec, size: tuple[int, int]) -> None:
    image = picture(*size)
    least, most = (len(tiny.compress(image, quality=quality)) for quality in (0, 100))
    for budget in range(least, most + 3, max(1, (most - least) // 12)):
        encoded = tiny.encode(image, Rate(size=budget))
        assert len(encoded.data) <= budget
        assert np.array_equal(tiny.decode_tokens(encoded.data), encoded.grid)
        bits = 8 * budget / (size[0] * size[1])
        assert tiny.compress(image, bpp=bits) == encoded.data
    with pytest.raises(UsageError, match=f"has {least} bytes, and at most {least - 1} were asked"):
        tiny.compress(image, size=least - 1)


@settings(PROPERTY, max_examples=15)
@given(SIDES, SIDES, st.integers(0, 99))
def test_quality_is_monotone_for_every_size(tiny: Codec, height: int, width: int, seed: int) -> None:
    image = picture(height, width, seed)
    sizes = [len(tiny.compress(image, quality=quality)) for quality in (0, 20, 50, 80, 99, 100)]
    assert sizes == sorted(sizes)


def test_more_quality_sends_the_same_tokens_and_more(tiny: Codec) -> None:
    image, before = picture(160, 144), None
    for quality in (0, 25, 50, 75, 100):
        sent = tiny.encode(image, Rate(quality=quality)).sent
        assert before is None or (sent & before == before).all()
        before = sent
    assert before is not None
    assert before.all()
    assert read_header(tiny.compress(image, quality=100)).mode is MODES["entire"]


def test_the_symbols_are_those_of_the_mask(tiny: Codec) -> None:
    """A rate only chooses blocks; the file is the one that the mask of the same blocks makes."""
    image = picture(256, 256)
    assert tiny.compress(image, quality=0) == tiny.compress(image, "edge_more:0")
    assert tiny.compress(image, quality=25) == tiny.compress(image, "edge_more:0.25")
    assert tiny.compress(image, quality=100) == tiny.compress(image, "entire")
    blocks = 8 * 8
    assert blocks <= FEW


def test_tiles_and_batches_change_no_byte(tiny: Codec, tiny_path: Path) -> None:
    images = [picture(400, 150, seed) for seed in range(3)]
    alone = [tiny.compress(image, size=130 + 5 * number) for number, image in enumerate(images)]
    assert next(tiny.compress_many(images, bpp=8 * 130 / 60_000, batch=3)) == alone[0]
    with Codec(tiny_path, threads=1, max_memory=1) as small:
        assert [small.compress(image, size=130 + 5 * number) for number, image in enumerate(images)] == alone


def test_a_batch_goes_on_without_the_image_that_does_not_fit(tiny: Codec) -> None:
    images = [picture(160, 144), np.full((160, 144, 3), 90, np.uint8)]
    limit = min(len(tiny.compress(image, quality=0)) for image in images)
    outcomes = list(tiny.compress_many(images, size=limit, batch=2))
    fits = [len(tiny.compress(image, quality=0)) <= limit for image in images]
    assert [isinstance(each, UigcError) for each in outcomes] == [not each for each in fits]


def test_a_file_far_below_its_limit_is_explained(tiny: Codec, caplog: pytest.LogCaptureFixture) -> None:
    image = picture(97, 203)
    with caplog.at_level(logging.WARNING, "uigc"):
        data = tiny.compress(image, size=5000)
    assert read_header(data).mode is MODES["entire"]
    assert caplog.messages == [
        f"The file has {len(data)} bytes of the 5000 asked for, because it holds every token of the image, and there "
        "is nothing more to send."
    ]
    assert shortfall(data, Rate(size=len(data))) is None
    assert shortfall(data, Rate(quality=100)) is None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mask": "edge", "bpp": 0.01}, "mask and bpp were given"),
        ({"size": 900, "quality": 3}, "size and quality were given"),
        ({"size": 0}, "size is 0, and a whole number"),
        ({"size": 9.5}, "size is 9.5, and a whole number"),
        ({"bpp": -1}, "bpp is -1, and a number of bits"),
        ({"bpp": float("nan")}, "bpp is nan, and a number of at most"),
        ({"bpp": 1e308}, "bpp is 1e.308, and a number of at most"),
        ({"size": 10**400}, "size is 10*, and a number of at most"),
        ({"quality": 101}, "quality is 101, and 0 to 100"),
        ({"quality": "best"}, "quality is 'best', and a number of at most"),
    ],
)
def test_what_is_not_possible_is_refused(tiny: Codec, options: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        tiny.compress(picture(32, 32), **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=reason):
        tiny.compress_many([], **options)  # type: ignore[call-overload]


def test_numbers_of_numpy_are_numbers() -> None:
    assert Rate(bpp=np.float32(0.5)).budget(16, 16) == Rate(size=np.int64(16)).budget(1, 1) == 16  # type: ignore[arg-type]


def test_one_measure_is_needed() -> None:
    with pytest.raises(UsageError, match="0 of bpp, size and quality"):
        Rate()
    assert rate_control.choose(None, "edge", None, None, None) == uigc.Mask.parse("edge")


def test_pillow_saves_at_a_rate(tiny: Codec, tiny_path: Path, tmp_path: Path) -> None:
    image = picture(97, 203)
    for options in ({"quality": 50}, {"size": 90}, {"bpp": 0.04}, {"mask": "edge_more"}, {}):
        Image.fromarray(image).save(tmp_path / "x.uigc", bundle=tiny_path, threads=1, **options)
        assert (tmp_path / "x.uigc").read_bytes() == tiny.compress(image, **options)  # type: ignore[arg-type]
    Image.fromarray(image).save(tmp_path / "x.uigc", bundle=tiny_path, threads=1, size=90, quality=75)
    assert (tmp_path / "x.uigc").read_bytes() == tiny.compress(image, size=90)
    with pytest.raises(ValueError, match="mask and size were given"):
        Image.fromarray(image).save(tmp_path / "y.uigc", bundle=tiny_path, threads=1, size=90, mask="edge")


def test_photographs_come_near_their_limits(kodak: list[Path]) -> None:
    with Codec(threads=1) as codec:
        for path in kodak[::8]:
            encoded = codec.encode(path, Rate(quality=0))
            sizes = [len(encoded.data)]
            for bpp in (0.009, 0.013, 0.018):
                encoded = codec.encode(path, Rate(bpp=bpp))
                budget = math.floor(bpp * 768 * 512 / 8)
                assert len(encoded.data) <= budget
                assert len(encoded.data) >= 0.97 * budget or encoded.sent.all()
                sizes.append(len(encoded.data))
            assert sizes == sorted(sizes)
