"""The integer reference equals PyTorch in three precisions, and the graphs."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.support.tiny import tiny_modules
from uigc.export.modules.prior import Prior, PriorConfig, Stage
from uigc.runtime import providers
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.manifest import CODER_TABLE
from uigc.runtime.exactness.conformance import context
from uigc.runtime.exactness.reference import CONTEXT_LIMIT, ReferencePrior, fixed, reciprocals, rounded, with_sums
from uigc.runtime.format.schedule import Schedule, quincunx
from uigc.runtime.providers import ProviderOptions


def test_floats_become_fixed_point_exactly() -> None:
    rng = np.random.default_rng(0)
    halves = rng.integers(0, 2**16, 5000).astype(np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    floats = rng.integers(-(2**23), 2**23, 5000) * 2.0 ** rng.integers(-24, 3, 5000)
    for array in (halves, floats.astype(np.float32)):
        assert np.array_equal(fixed(array), (array.astype(np.float64) * 2**24).astype(np.int64))


def test_rounding_is_half_to_even() -> None:
    values = np.arange(-4000, 4000)
    for bits in (0, 1, 3, 6):
        assert np.array_equal(rounded(values, bits), np.rint(values / 2**bits))


def test_reciprocals_equal_those_of_the_modules() -> None:
    from uigc.export.modules.dyadic import context_norm

    table = context_norm(64).reciprocals[:, 0].double().numpy()
    assert np.array_equal(reciprocals(CONTEXT_LIMIT), table * 2**24)


@pytest.mark.parametrize(
    ("width", "heads", "window", "layers"),
    [(64, 2, 16, 3), (32, 4, 8, 2), (16, 4, 16, 1), (16, 2, 4, 4), (16, 2, 12, 3)],
)
def test_pytorch_in_every_precision(width: int, heads: int, window: int, layers: int) -> None:
    torch.manual_seed(width)
    schedule = quincunx() if layers > 2 else Schedule(2, (((0, 0),), ((1, 1),), ((0, 1), (1, 0))))
    prior = Prior(PriorConfig(32, width, layers, heads, expansion=4, window=window), schedule)
    for block in prior.blocks:
        for table in (block.attention.scores, block.attention.qkv.bias, block.up.bias):
            torch.nn.init.normal_(table.weight)
    torch.nn.init.normal_(prior.bias.weight)
    torch.nn.init.normal_(prior.head.weight, std=width**-0.5)
    double = copy.deepcopy(prior.freeze()).double()
    state = {f"prior.{name}": value.numpy() for name, value in prior.state_dict().items()}
    reference = ReferencePrior(state.__getitem__, prior.config.to_json(), prior.schedule)
    tokens = torch.randint(0, 34, (2, 2 * window, 3 * window), dtype=torch.int32)
    for stage in range(len(schedule)):
        expected = torch.from_numpy(reference.logits(tokens.numpy(), stage))
        with torch.no_grad():
            assert torch.equal(Stage(prior, stage)(tokens), expected)
            assert torch.equal(Stage(double, stage)(tokens), expected)
            torch.set_float32_matmul_precision("medium")  # bfloat16 products
            try:
                assert torch.equal(Stage(prior, stage)(tokens), expected)
            finally:
                torch.set_float32_matmul_precision("highest")
        assert expected.float().std() > 10


def load(bundle: Bundle, stage: int, precision: str) -> Callable[[np.ndarray], np.ndarray]:
    return providers.find("cpu").load(bundle.graph(f"stage{stage}", precision), ProviderOptions())


@pytest.mark.parametrize("stage", range(6))
def test_the_default_bundle(stage: int) -> None:
    bundle = Bundle.load()
    reference = ReferencePrior(bundle.weights.read, bundle.manifest["prior"]["config"], bundle.schedule)
    grids = np.random.default_rng(stage).integers(0, bundle.codebook, (2, 14, 27), dtype=np.int32)
    tokens = context(bundle, grids, stage, 0)
    expected = with_sums(reference.logits(tokens, stage), bundle.table(CODER_TABLE))
    for precision in bundle.precisions(f"stage{stage}"):
        assert np.array_equal(load(bundle, stage, precision)(tokens), expected)


def test_another_arithmetic_is_refused() -> None:
    prior = tiny_modules(0)[1].prior
    with pytest.raises(ValueError, match="arithmetic is 1 and this is 3"):
        ReferencePrior(lambda name: np.zeros(1), {**prior.config.to_json(), "arithmetic": 1}, prior.schedule)
