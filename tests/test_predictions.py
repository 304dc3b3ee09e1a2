"""What stages return since version 4: logits with sums over them, which are exact and are compared when used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tests.support.earlier_bundles import as_version_2, as_version_3
from tests.support.web import answers
from uigc.export.modules.prior import Prior, PriorConfig, Stage
from uigc.export.predictions import LOGITS, PREDICTIONS, with_predictions
from uigc.export.proof import prove, token_domain
from uigc.export.trace import Spec, compare, trace
from uigc.runtime.bundle import Bundle, manifest
from uigc.runtime.codec import Codec
from uigc.runtime.errors import InexactError
from uigc.runtime.exactness.reference import with_sums
from uigc.runtime.format.entropy_coder import TokenEntropyModel, weight_table
from uigc.runtime.format.range_coder import SymbolReader, SymbolWriter
from uigc.runtime.format.schedule import Schedule

RNG = np.random.default_rng(11)
MASKS = ("entire", "edge", "edge_more:0.3", "edge_more+draw7")


@pytest.fixture(scope="module", params=[as_version_3, as_version_2])
def earlier(request: pytest.FixtureRequest, tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose stages return logits alone."""
    path: Path = request.param(tiny_path, tmp_path_factory.mktemp("earlier") / "bundle")
    return path


def test_earlier_bundles_give_the_same_files(tiny: Codec, earlier: Path) -> None:
    codec = Codec(earlier, threads=1)
    assert (tiny.bundle.has_sums, codec.bundle.has_sums) == (True, False)
    assert tiny.token_codec.prior.load(2)(np.zeros((1, 8, 8), np.int32)).shape == (1, 8, 16 + 4 + 1)
    assert codec.token_codec.prior.load(2)(np.zeros((1, 8, 8), np.int32)).shape == (1, 8, 16)
    for height, width in ((16, 16), (150, 231)):
        pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for mask in MASKS:
            data = tiny.compress(pixels, mask)
            assert codec.compress(pixels, mask) == data
            assert np.array_equal(codec.decode_tokens(data), tiny.decode_tokens(data))
    assert codec.compress(pixels, size=120) == tiny.compress(pixels, size=120)


def test_every_decoder_reads_earlier_bundles(tiny: Codec, earlier: Path, tmp_path: Path) -> None:
    """The one in JavaScript; tests/test_cpp.py has that in C++."""
    (tmp_path / "in.uigc").write_bytes(tiny.compress(RNG.integers(0, 256, (90, 70, 3), dtype=np.uint8), "edge_more"))
    request = f"decode {tmp_path / 'in.uigc'}"
    found, wanted = answers(earlier, [request]), answers(tiny.bundle.path, [request])
    assert found == wanted
    assert found[0][0].startswith("grid ")


@pytest.mark.parametrize("codebook", [4, 16, 256, 512, 1024, 2048])
def test_sums_change_no_bit(codebook: int) -> None:
    model = TokenEntropyModel(weight_table(), codebook)
    logits = np.clip(np.rint(RNG.normal(0, 200, (70, codebook))), -2047, 2047).astype(np.int32)
    logits[3] = 5  # the largest sums there are
    predictions, tokens = with_sums(logits, weight_table()), RNG.integers(0, codebook, 70, dtype=np.int32)
    assert predictions.shape == (70, model.columns)
    rows = np.flatnonzero(RNG.random(70) < 0.6)
    for chosen in (None, rows, rows[:0]):
        coded, payloads = tokens if chosen is None else tokens[chosen], []
        for seen in (logits, predictions):
            writer = SymbolWriter()
            model.encode(writer, seen, coded, chosen)
            payloads.append(writer.finish())
            assert np.array_equal(model.decode(SymbolReader(payloads[-1]), seen, chosen), coded)
            assert np.array_equal(model.costs(seen, coded, chosen), model.costs(logits, coded, chosen))
        assert payloads[0] == payloads[1]


@pytest.mark.parametrize("column", [16, 18, 20])
@pytest.mark.parametrize("change", [1, -1])
def test_sums_that_are_not_those_of_the_logits(column: int, change: int) -> None:
    """The weight of a digit that is coded, or the largest logit."""
    model, tokens = TokenEntropyModel(weight_table(), 16), np.array([0, 9, 3], dtype=np.int32)
    right, writer = with_sums(RNG.integers(-60, 60, (3, 16), dtype=np.int32), weight_table()), SymbolWriter()
    model.encode(writer, right, tokens)
    wrong = right.copy()
    wrong[1 if column == 18 else 0, column] += change
    with pytest.raises(InexactError, match="are not those of its logits"):
        model.encode(SymbolWriter(), wrong, tokens)
    with pytest.raises(InexactError, match="are not those of its logits"):
        model.decode(SymbolReader(writer.finish()), wrong)
    assert np.array_equal(model.logits(right), right[:, :16])
    if column == 20:
        with pytest.raises(InexactError, match="others than it stated"):
            model.logits(wrong)


def stage(codebook: int) -> tuple[Spec, Prior]:
    """Return a stage of a small prior, which predicts half of a tile of 2x2."""
    torch.manual_seed(0)
    schedule = Schedule(2, (((0, 0),), ((1, 1),), ((0, 1), (1, 0))))
    prior = Prior(PriorConfig(codebook=codebook, width=16, layers=2, heads=2, window=8), schedule)
    torch.nn.init.normal_(prior.head.weight, std=0.25)
    grid = torch.randint(codebook, (2, 16, 24), dtype=torch.int32)
    dynamic = {0: ("batch", 1), 1: ("rows", 8), 2: ("columns", 8)}
    spec = Spec("stage2", Stage(prior.freeze(), 2), grid, "tokens", LOGITS, dynamic, len(prior.others))
    return spec, prior


@pytest.mark.parametrize(
    ("codebook", "output"), [(4, PREDICTIONS), (512, PREDICTIONS), (2048, PREDICTIONS), (4096, LOGITS)]
)
def test_sums_are_proven_exact_or_left_to_the_host(codebook: int, output: str, tmp_path: Path) -> None:
    """Those of 64 weights may need more bits than float32 has."""
    spec, prior = stage(codebook)
    model = with_predictions(trace(spec), weight_table())
    assert [each.name for each in model.graph.output] == [output]
    assert manifest.has_sums(4, codebook) == (output == PREDICTIONS)
    for version, wanted in ((3, LOGITS), (4, output)):
        assert manifest._stage_output({"version": version, "prior": {"codebook": codebook}}) == wanted
    proof = prove(model, token_domain(prior.config.pad))
    assert proof.tightest.slack >= 0
    onnx.save(model, tmp_path / "stage2.onnx")
    compare(spec, str(tmp_path / "stage2.onnx"), [spec.example, spec.example[:1, :8, :8]])


def test_a_table_beyond_float32_is_refused() -> None:
    spec, prior = stage(512)
    model = with_predictions(trace(spec), weight_table() * 64 + 1)
    with pytest.raises(Exception, match=r"partial sums reach .* float32 holds 2\^24"):
        prove(model, token_domain(prior.config.pad))


def test_a_wrong_table_is_found(tmp_path: Path) -> None:
    spec, _ = stage(16)
    table = weight_table()
    table[1] += 1
    onnx.save(with_predictions(trace(spec), table), tmp_path / "stage2.onnx")
    with pytest.raises(Exception, match="logits and weights are different"):
        compare(spec, str(tmp_path / "stage2.onnx"), [spec.example])


def test_the_output_is_part_of_the_version(tiny_path: Path) -> None:
    stated = Bundle.load(tiny_path).manifest
    assert stated["version"] == 4
    for name, graph in stated["graphs"].items():
        if name.startswith("stage"):
            assert [each["name"] for each in graph["outputs"]] == [PREDICTIONS]
            assert graph["outputs"][0]["shape"][2] == 16 + 4 + 1
