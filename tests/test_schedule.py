"""The schedule: shares, order and JSON."""

from __future__ import annotations

import numpy as np
import pytest

from uigc.runtime.errors import BundleError
from uigc.runtime.format.schedule import Schedule, quincunx


def test_shares_of_the_default() -> None:
    grid = quincunx().stage_of(16, 32)
    assert [int((grid == stage).sum()) for stage in range(6)] == [32, 32, 64, 128, 128, 128]


def test_first_four_stages_are_the_white_squares() -> None:
    grid = quincunx().stage_of(8, 8)
    rows, columns = np.indices(grid.shape)
    assert np.array_equal(grid < 4, (rows + columns) % 2 == 0)


def test_leading_stages_by_share() -> None:
    schedule = quincunx()
    assert [schedule.leading(share) for share in (1.0, 0.5, 0.25)] == [6, 4, 3]


def test_gather_orders_tile_by_tile_and_scatter_inverts() -> None:
    schedule = quincunx()
    grid = np.arange(8 * 12, dtype=np.int32).reshape(8, 12)
    assert schedule.gather(grid, 2).tolist()[:4] == [2, 24, 6, 28]
    copy = np.full_like(grid, -1)
    for stage in range(len(schedule)):
        schedule.scatter(copy, stage, schedule.gather(grid, stage))
    assert np.array_equal(copy, grid)


def test_json_round_trip() -> None:
    schedule = quincunx()
    data = schedule.to_json()
    assert Schedule.from_json(data["tile"], data["stages"]) == schedule


@pytest.mark.parametrize("stages", [(((0, 0),),), (((0, 0), (0, 1), (1, 0)), ((1, 0), (1, 1))), (((0, 0),) * 4,)])
def test_refuses_stages_that_are_not_a_partition(stages: tuple[tuple[tuple[int, int], ...], ...]) -> None:
    with pytest.raises(BundleError, match="exactly once"):
        Schedule(2, stages)
