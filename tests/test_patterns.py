"""Woven patterns are told by their period, and photographs have none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from uigc.bench.patterns import PERIODS, SMALLEST, woven

Pixels = NDArray[np.uint8]


def rounded(image: NDArray[np.float64]) -> Pixels:
    return image.round().clip(0, 255).astype(np.uint8)


def with_pattern(image: NDArray[np.float64], period: int, rows: bool = True, columns: bool = True) -> Pixels:
    height, width = image.shape[:2]
    down = np.cos(2 * np.pi * np.arange(height) / period)[:, None, None] * rows
    right = np.cos(2 * np.pi * np.arange(width) / period)[None, :, None] * columns
    return rounded(image + 4 * down + 4 * right)


@pytest.fixture(scope="module")
def soft(sample: Pixels) -> NDArray[np.float64]:
    """A photograph as a decoder makes it, a little blurred, with other noise; paler, so that nothing is clipped."""
    rng = np.random.default_rng(0)
    blurred = sum(np.roll(sample, shift, axis).astype(float) for shift in (-1, 0, 1) for axis in (0, 1)) / 6
    return np.asarray(16 + 0.88 * blurred + rng.normal(0, 2, sample.shape))


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("axes", [(True, True), (True, False), (False, True)])
def test_a_pattern_is_told_by_its_period(
    sample: Pixels, soft: NDArray[np.float64], period: int, axes: tuple[bool, bool]
) -> None:
    found = woven(with_pattern(soft, period, *axes), sample)
    assert found is not None
    assert found[period] > (3 if all(axes) else 1.8)
    assert all(value < 1.5 for other, value in found.items() if other != period)


def test_the_smallest_images_are_told_as_large_ones_are() -> None:
    """Where two periods are woven in, neither counts among the neighbours of the other."""
    rng = np.random.default_rng(1)
    clean = 128 + rng.normal(0, 4, (SMALLEST, SMALLEST, 3))
    both = rounded(with_pattern(clean, 16).astype(float) + with_pattern(clean, 8) - clean)
    alone, together = woven(with_pattern(clean, 16), rounded(clean)), woven(both, rounded(clean))
    assert alone is not None
    assert together is not None
    assert together[16] > 0.8 * alone[16] > 8
    assert together[8] > 8


def test_colours_are_seen_where_the_lightness_is_even(sample: Pixels, soft: NDArray[np.float64]) -> None:
    wave = 4 * np.cos(2 * np.pi * np.arange(soft.shape[1]) / 4)[None, :, None]
    found = woven(rounded(soft + wave * [1, 0, -1]), sample)
    assert found is not None
    assert found[4] > 1.8


def test_clean_images_are_at_1(sample: Pixels, soft: NDArray[np.float64]) -> None:
    assert woven(sample, sample) == dict.fromkeys(PERIODS, 1.0)
    found = woven(rounded(soft), sample)
    assert found is not None
    assert all(0.5 < value < 1.6 for value in found.values())
    grey = np.full((128, 160, 3), 99, np.uint8)
    assert woven(grey, grey) == dict.fromkeys(PERIODS, 1.0)


def test_shifts_do_not_matter(sample: Pixels, soft: NDArray[np.float64]) -> None:
    made = with_pattern(soft, 8)
    whole = woven(made, sample)
    shifted = woven(made[5:, 3:], sample[5:, 3:])
    assert whole is not None
    assert shifted is not None
    for period in PERIODS:
        assert shifted[period] == pytest.approx(whole[period], rel=0.35)


def test_small_images_are_not_measured() -> None:
    small = np.zeros((95, 400, 3), np.uint8)
    assert woven(small, small) is None
