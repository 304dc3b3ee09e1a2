"""The prior makes no rounding error: results are equal, not close."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from tests.support.tiny import tiny_modules
from uigc.export.modules import dyadic
from uigc.export.modules.prior import Prior, PriorConfig, Stage
from uigc.export.modules.windows import Layout, window_shifts
from uigc.runtime.format.schedule import quincunx


@pytest.fixture(scope="module")
def prior() -> Prior:
    """A prior so wide that an ordinary float32 network of its size would round."""
    torch.manual_seed(1)
    prior = Prior(PriorConfig(codebook=64, width=128, layers=4, heads=2, expansion=4, window=16), quincunx())
    torch.nn.init.normal_(prior.head.weight, std=prior.config.width**-0.5)  # as in a trained prior
    for block in prior.blocks:
        torch.nn.init.normal_(block.attention.scores.weight, std=0.75)
        torch.nn.init.normal_(block.up.bias.weight)
    return prior.freeze()


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(0, 66, (2, 32, 48), generator=torch.Generator().manual_seed(2), dtype=torch.int32)


@pytest.mark.parametrize("stage", range(6))
def test_float64_and_bfloat16_products_give_the_same_logits(prior: Prior, tokens: torch.Tensor, stage: int) -> None:
    module = Stage(prior, stage)
    with torch.no_grad():
        logits = module(tokens)
        assert torch.equal(logits, Stage(copy.deepcopy(prior).double(), stage)(tokens))
        torch.set_float32_matmul_precision("medium")
        try:
            assert torch.equal(logits, module(tokens))
        finally:
            torch.set_float32_matmul_precision("highest")
    assert logits.float().std() > 10  # the logits are not all alike


@pytest.mark.parametrize("factor", [2.0**-9, 2.0**-4, 2.0**3])
def test_sums_with_the_residual_stream_do_not_round_either(factor: float) -> None:
    """Tiny and huge weights must not push the terms that are added to a product out of 24 bits."""
    prior = tiny_modules(6)[1].prior
    with torch.no_grad():
        for block in prior.blocks:
            block.down.weight.mul_(factor)
            block.attention.out.weight.mul_(factor)
        prior.head.weight.mul_(factor)
        prior.bias.weight.normal_(std=20)
    prior.freeze()
    block, double = prior.blocks[0], copy.deepcopy(prior).double()
    x = dyadic.residual(torch.randn(1, 4, 4, 16, 16) * 6)
    hidden = dyadic.positive_activation(torch.randn(1, 4, 4, 16, 32) * 2)
    total = x + block.down(hidden)
    assert torch.equal(total.double(), x.double() + double.blocks[0].down(hidden.double()))
    normed = prior.norm(x)
    assert torch.equal(
        (prior.head(normed) + prior.bias()).double(), double.head(normed.double()) + double.bias().double()
    )


def test_the_float_twin_of_a_product_does_round() -> None:
    """The tests above can fail: products of random float weights do round."""
    x, w = torch.randn(64, 512), torch.randn(512, 512)
    assert not torch.equal((x @ w).double(), x.double() @ w.double())


def test_training_and_frozen_forward_are_the_same() -> None:
    _, trained = tiny_modules(3)
    tokens = torch.randint(0, 18, (1, 16, 16))
    for stage in range(6):
        live = trained.prior(tokens, stage)
        assert live.requires_grad
        assert torch.equal(live.detach(), copy.deepcopy(trained.prior).freeze()(tokens, stage))


def test_batch_does_not_matter(prior: Prior, tokens: torch.Tensor) -> None:
    with torch.no_grad():
        assert torch.equal(prior(tokens, 4)[1:], prior(tokens[1:], 4))


def test_a_stage_does_not_see_later_stages() -> None:
    prior = tiny_modules(4)[1].prior.freeze()
    tokens = torch.randint(0, 16, (1, 16, 16))
    later = torch.from_numpy(quincunx().stage_of(16, 16)) > 2
    with torch.no_grad():
        assert torch.equal(prior(tokens, 2), prior(torch.where(later, 17, tokens), 2))


def test_the_last_block_returns_only_what_is_predicted(prior: Prior) -> None:
    rows: list[list[int]] = []
    hooks = [block.register_forward_hook(lambda _, __, x: rows[-1].append(len(x))) for block in prior.blocks]
    schedule, tiles = prior.schedule, 2 * 8 * 12
    for stage in range(len(schedule)):
        rows.append([])
        with torch.no_grad():
            prior(torch.zeros(2, 32, 48, dtype=torch.int32), stage)
    for hook in hooks:
        hook.remove()
    for stage, counts in enumerate(rows):
        active, asked = len(schedule.active(stage)), len(schedule.stages[stage])
        assert counts == [tiles * active] * (len(prior.blocks) - 1) + [tiles * asked]


def test_every_parameter_learns() -> None:
    _, trained = tiny_modules(5)
    tokens = torch.randint(0, 16, (4, 16, 16))
    sum(trained.prior(tokens, stage).square().mean() for stage in range(6)).backward()
    for name, parameter in trained.prior.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


def positions(layout: Layout) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the image, the tile row and the tile column of each row of a stream."""
    shape = layout.batch, layout.lines, layout.columns, layout.side, layout.side, layout.per_tile
    image, line, window, down, right, _ = torch.meshgrid(*map(torch.arange, shape), indexing="ij")
    return image.flatten(), (line * layout.side + down).flatten(), (window * layout.side + right).flatten()


@pytest.mark.parametrize("layout", [Layout(2, 2, 3, 4, 1, 1), Layout(3, 1, 2, 4, 1, 1), Layout(1, 3, 1, 4, 1, 1)])
def test_shifted_windows_connect_neighbours_only(prior: Prior, layout: Layout) -> None:
    orders, mask = prior._row_orders(layout, 0), layout.for_all_windows(prior.near0, prior.others)
    image, row, column = (axis[orders.shift].view(-1, layout.tokens) for axis in positions(layout))
    allowed = mask.expand(layout.batch, -1, -1, -1, -1, -1).flatten(0, 3).bool()

    def distance(axis: torch.Tensor) -> torch.Tensor:
        return (axis[:, :, None] - axis[:, None, :]).abs()

    near = (distance(image) == 0) & (distance(row) < layout.side) & (distance(column) < layout.side)
    over = torch.zeros_like(near)  # pairs that meet only because the plane wraps around onto itself
    if layout.lines == 1 and layout.batch == 1:
        over |= distance(row) > 0
    if layout.columns == 1:
        over |= (column < layout.side // 2)[:, :, None] != (column < layout.side // 2)[:, None, :]
    assert torch.equal(allowed, near & ~over)


@pytest.mark.parametrize("stage", range(6))
def test_every_token_is_moved_once_and_comes_back(stage: int, prior: Prior) -> None:
    per_tile, asked_of_tile = len(prior.schedule.active(stage)), len(prior.schedule.stages[stage])
    layout = Layout(2, 2, 3, 4, per_tile, asked_of_tile)
    orders, every_row = prior._row_orders(layout, stage), torch.arange(2 * 2 * 3 * 16 * per_tile)
    assert torch.equal(orders.shift.sort().values, every_row)
    assert torch.equal(orders.shift[orders.unshift], every_row)
    image, row, column = positions(layout)
    # The asked tokens of each grid are in coding order: tile by tile, from left to right and from top to bottom, and in
    # each tile the last ones in their order.
    asked = layout.asked_rows(orders.shift[:, None]).flatten()[orders.asked]
    tiles = torch.arange(8)[:, None].expand(8, 12).flatten(), torch.arange(12).expand(8, 12).flatten()
    in_order = [axis.repeat_interleave(asked_of_tile) for axis in tiles]
    for grid in range(2):
        assert torch.equal(image[asked[grid]], torch.full((96 * asked_of_tile,), grid))
        assert torch.equal(row[asked[grid]], in_order[0])
        assert torch.equal(column[asked[grid]], in_order[1])
        assert torch.equal(asked[grid] % per_tile, torch.arange(per_tile)[-asked_of_tile:].repeat(96))


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_windows_shift_by_half_their_side(side: int) -> None:
    (there_lines, there_rows), (back_lines, back_rows) = window_shifts(side, 2)
    count = 2 * side * side
    assert there_lines.min() == -1
    assert there_lines.max() <= 0
    assert back_lines.min() >= 0
    assert back_lines.max() == 1
    lines = torch.arange(3 * count).view(3, -1)  # 3x3 windows; these are the rows of each window of a line
    for line in range(3):
        for column in range(3):
            there = (line + there_lines) % 3, (column * count + there_rows) % (3 * count)
            again = (
                (there[0] + back_lines[there[1] % count]) % 3,
                ((there[1] // count * count + back_rows[there[1] % count]) % (3 * count)),
            )
            assert torch.equal(again[0], torch.full((count,), line))
            assert torch.equal(again[1], lines[column])


def test_weights_have_seven_bits_and_powers_of_two() -> None:
    linear = dyadic.Linear(40, 30)
    step = dyadic.row_step(linear.weight)
    assert torch.equal(torch.frexp(step)[0], torch.full_like(step, 0.5))
    steps = linear.quantized().detach() / step
    assert torch.equal(steps, steps.round())
    assert int(steps.abs().max()) <= dyadic.WEIGHT_MAX
    assert bool((steps.abs().amax(1) > dyadic.WEIGHT_MAX / 2).all())


def test_rows_that_fit_exactly_keep_their_step() -> None:
    weight = torch.tensor([[63 * 2.0**-9, 2.0**-9], [64 * 2.0**-9, 0.0]])
    assert dyadic.row_step(weight).flatten().tolist() == [2.0**-9, 2.0**-8]


def test_reciprocals_have_nine_bits() -> None:
    table = dyadic.short_reciprocals(20000).double().numpy()
    mantissa, _ = np.frexp(table)
    assert np.array_equal(mantissa * 512, np.rint(mantissa * 512))
    assert np.abs(table[8:] * (np.arange(8, 20000) + 0.5) - 1).max() <= 2.0**-9
    assert set(table[:8]) == {0.125}


def test_fix_clips_and_stops_gradients_there() -> None:
    x = torch.tensor([-5.0, -0.26, 0.25, 0.26, 0.75, 5.0], requires_grad=True)
    y = dyadic.fix(x * 2, -2, 2)
    assert y.tolist() == [-2.0, -1.0, 0.0, 1.0, 2.0, 2.0]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 2.0, 2.0, 2.0, 2.0, 0.0]
    assert torch.equal(dyadic.fix(x.detach() * 2, -2, 2), y)


@pytest.mark.parametrize("width", [24, 1024 * 16])
def test_norm_refuses_widths_that_round(width: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        dyadic.residual_norm(width)


def test_linear_refuses_sums_beyond_24_bits() -> None:
    with pytest.raises(ValueError, match="24 bits"):
        dyadic.Linear(2048, 8)
