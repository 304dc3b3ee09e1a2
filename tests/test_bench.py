"""The benchmarks measure what they say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from tests.support.tiny import TINY_PRIOR
from uigc.bench import cost, exactness, nodes
from uigc.bench.result import machine, write
from uigc.bench.torch_modes import MODES, Mode, computing
from uigc.export.modules import floating
from uigc.export.modules.checkpoint import frozen_prior
from uigc.export.modules.prior import Prior, Stage
from uigc.export.trace import trace
from uigc.runtime import providers
from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import Codec
from uigc.runtime.exactness import conformance
from uigc.runtime.format.schedule import quincunx
from uigc.runtime.progress import silent
from uigc.runtime.providers import ProviderOptions


@pytest.fixture(scope="module")
def bundle(tiny_path: Path) -> Bundle:
    return Bundle.load(tiny_path)


def loader(bundle: Bundle, precision: str) -> cost.Loader:
    cpu = providers.find("cpu")
    return lambda stage: cpu.load(bundle.graph(f"stage{stage}", precision), ProviderOptions(1))


def test_bits_are_those_of_the_coder(tiny: Codec, bundle: Bundle) -> None:
    grid = np.random.default_rng(0).integers(0, 16, (9, 13), dtype=np.int32)
    *stages, total = cost.bits(bundle, [grid], loader(bundle, "fp32"), 1 / 32)
    counted = tiny.token_codec.prior.cost(grid, np.ones(grid.shape, bool))
    for found, (number, wanted) in zip(stages, counted, strict=True):
        assert math.isclose(found * number, wanted, rel_tol=1e-3)
    assert math.isclose(total * grid.size, sum(wanted for _, wanted in counted), rel_tol=1e-3)


def test_times_of_every_stage(bundle: Bundle) -> None:
    measured = cost.times(bundle, {name: loader(bundle, name) for name in ("fp32", "int8")}, 3)
    assert len(measured) == 6
    assert all(set(stage) == {"fp32", "int8"} and stage["int8"]["median"] > 0 for stage in measured)


def test_the_twin_is_traced_as_it_is() -> None:
    twin = Prior(TINY_PRIOR, quincunx(), floating).freeze()
    torch.nn.init.normal_(twin.head.weight, std=TINY_PRIOR.width**-0.5)
    spec = cost.twin_spec(twin, 1)
    session = onnxruntime.InferenceSession(trace(spec).SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = twin(spec.example, 1).numpy()
    (found,) = session.run(None, {"tokens": spec.example.numpy()})
    assert np.allclose(found, wanted, atol=1e-4)
    assert wanted.std() > 0.1


def test_pytorch_reads_the_bundle_and_is_exact(bundle: Bundle, tiny_path: Path) -> None:
    solved = conformance.make_cases(bundle, 9, [], 3, 2, silent)
    outcomes = exactness.torch_outcomes(bundle, solved, "cpu")
    assert [outcome.precision for outcome in outcomes] == [mode.name for mode in MODES]
    assert all(outcome.values > 0 and outcome.different == 0 for outcome in outcomes)
    prior = frozen_prior(bundle)
    with torch.no_grad():
        prior.head.weight[3, 3] += 1
    graph = exactness._loader(prior, "cpu")(5)
    tokens = solved[-1].tokens
    assert not np.array_equal(graph(tokens), Stage(frozen_prior(bundle), 5)(torch.from_numpy(tokens)).numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_operands_reach_every_product(dtype: torch.dtype) -> None:
    """Operands that the type does not hold are rounded to it: the mode is not a bystander."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 3, 5), torch.randn(4, 5), torch.randn(4)
    short_x, short_weight = x.to(dtype).float(), weight.to(dtype).float()
    before = torch.get_float32_matmul_precision()
    with computing(Mode("half", operands=dtype)):
        products = [F.linear(x, weight, bias), x @ x.transpose(1, 2), F.linear(x, weight)]
    wanted = [F.linear(short_x, short_weight, bias), short_x @ short_x.transpose(1, 2), F.linear(short_x, short_weight)]
    for product, value in zip(products, wanted, strict=True):
        assert torch.allclose(product, value, atol=1e-6)
        assert product.dtype == torch.float32
    assert not torch.allclose(products[0], F.linear(x, weight, bias), atol=1e-4)
    assert torch.get_float32_matmul_precision() == before


def test_results_name_the_machine(tmp_path: Path) -> None:
    write(tmp_path / "new" / "result.json", {**machine(), "figure": 1})
    result = json.loads((tmp_path / "new" / "result.json").read_text())
    assert result["figure"] == 1
    assert result["versions"]["numpy"] == np.__version__
    assert {"date", "command", "machine", "processor", "device"} <= set(result)


def test_a_known_size_leaves_fewer_nodes(tiny_path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    manifest = Bundle.load(tiny_path).manifest["graphs"]
    arguments = ["nodes", str(tiny_path), "--size", "200x100", "--json", str(tmp_path / "n.json")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", arguments)
        nodes.main()
    found = json.loads((tmp_path / "n.json").read_text())["graphs"]
    assert len(found) == 12 == len(capsys.readouterr().out.splitlines())
    for entry in found:
        name, precision = entry["graph"].split(".")
        assert entry["file"] == manifest[name]["precisions"][precision]["nodes"]
        if precision == "fp32":
            assert entry["one_size"] < entry["any_size"], entry
