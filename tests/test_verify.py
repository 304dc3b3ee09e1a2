"""``uigc verify`` passes exact graphs and fails inexact ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from tests.support import inexact_bundles
from tests.support.tiny import tiny_cases
from uigc.export.proof import ProofError, prove_file, token_domain
from uigc.runtime import providers
from uigc.runtime.bundle import Bundle
from uigc.runtime.cli.main import main
from uigc.runtime.cli.verify import expect_outcomes
from uigc.runtime.errors import EngineError, ExitCode, ProviderError, UigcError
from uigc.runtime.exactness import verify
from uigc.runtime.exactness.conformance import BATCHES, Case, random_grids
from uigc.runtime.exactness.verify import compare, examine, matrix
from uigc.runtime.providers import OPTIMIZATIONS, ProviderOptions


@pytest.fixture(scope="module")
def bundle(tiny_path: Path) -> Bundle:
    return Bundle.load(tiny_path)


@pytest.fixture(scope="module")
def cases(bundle: Bundle) -> list[Case]:
    return tiny_cases(bundle, 60)


def test_cases_are_of_all_kinds(bundle: Bundle, cases: list[Case]) -> None:
    assert {case.stage for case in cases} == set(range(6))
    assert {len(case.tokens) for case in cases} == set(BATCHES)
    assert len({case.tokens.shape[1:] for case in cases}) >= 4
    for token in (0, bundle.unknown, bundle.pad):
        assert any((case.tokens == token).any() for case in cases)
    assert sum(grids.size for _, grids in random_grids(bundle, 60, 0)) >= 60 * bundle.window**2


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_setting_is_exact(bundle: Bundle, cases: list[Case], precision: str) -> None:
    cpu = providers.find("cpu")
    seen = set()
    for options in cpu.settings:
        outcome = examine(bundle, cpu, precision, options, cases)
        assert outcome.values == sum(case.predictions.size for case in cases)
        assert outcome.different == 0
        seen.add((options.threads, options.optimization))
    assert seen == {(None, "all"), *((threads, level) for threads in (1, 2) for level in OPTIMIZATIONS)}


def test_a_single_wrong_logit_is_counted(cases: list[Case], bundle: Bundle) -> None:
    cpu = providers.find("cpu")

    def load(stage: int) -> providers.Graph:
        graph = cpu.load(bundle.graph(f"stage{stage}"), ProviderOptions())

        def run(tokens: np.ndarray) -> np.ndarray:
            logits = graph(tokens)
            if stage == 2 and len(tokens) == 8:
                logits[7, 3, 5] += 1
            return logits

        return run

    _, different = compare(cases, load)
    assert different == sum(case.stage == 2 and len(case.tokens) == 8 for case in cases) > 0
    assert (
        compare(cases[:1], lambda stage: lambda tokens: np.zeros((1, 1, 1), np.int32))[1] == cases[0].predictions.size
    )


def test_nothing_compared_is_no_success(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a folder that has engines of the decoder alone."""
    monkeypatch.setattr(type(providers.find("cpu")), "verified", ())
    bundle = ["--bundle", str(tiny_path)]
    assert main(["verify", "--provider", "cpu", "--windows", "1", *bundle]) == ExitCode.PROVIDER
    monkeypatch.setattr(type(providers.find("cpu")), "verified", ("fp16",))
    with pytest.raises(ProviderError, match="'cpu': it runs stages in fp16, and the bundle has them in fp32 and int8"):
        expect_outcomes(Bundle.load(tiny_path), [providers.find("cpu")], [])


@pytest.mark.parametrize("kind", [ProviderError, EngineError])
def test_a_failing_provider_is_not_a_difference(
    kind: type[UigcError], bundle: Bundle, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        name, precisions, pixel_precisions, settings = "failing", ("fp32",), ("fp32",), (ProviderOptions(),)

        def load(self, path: Path, options: ProviderOptions) -> providers.Graph:
            raise kind("It has no memory left; give it some.")

    outcome = examine(bundle, Failing(), "fp32", ProviderOptions(), cases)
    assert (outcome.values, outcome.different, outcome.error) == (0, 0, "It has no memory left; give it some.")
    monkeypatch.setattr(verify, "gpu_names", lambda: ("GPU A", "GPU B"))
    assert verify.report(bundle, [outcome], 1, 0, on_gpu=1)["gpu"] == "GPU B"
    assert verify.report(bundle, [outcome], 1, 0)["gpu"] is None
    assert matrix([outcome]).splitlines()[1].split() == ["failing", "fp32", "0", "failed"]


def test_the_command(uigc: Run, tiny_path: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "images" / "teal.png")
    (tmp_path / "images" / "bad.png").write_bytes(b"no image")
    options = ("--images", "images", "--windows", 3, "--provider", "cpu")
    done = uigc("verify", "--bundle", tiny_path, *options, "--json", "out.json")
    assert done.returncode == ExitCode.INPUT, done.stderr
    assert b"bad.png: The input is not an image" in done.stderr
    assert done.stderr.endswith(
        b"1 of 3 files failed, for the reasons above; the logits of the others were compared.\n"
    )
    result = json.loads((tmp_path / "out.json").read_text())
    assert (result["different"], result["pictures"]) == (0, 2)
    assert result["values"] == sum(outcome["values"] for outcome in result["outcomes"])
    assert len(result["outcomes"]) == 18
    lines = done.stdout.decode().splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["cpu", name] for name in ("fp32", "int8")]
    assert uigc("verify", "--bundle", tiny_path, "--json", "out.json").returncode == ExitCode.OUTPUT
    assert uigc("verify", "--bundle", tiny_path, "--images", tiny_path).returncode == ExitCode.INPUT
    assert uigc("verify", "--bundle", tiny_path, "--provider", "none").returncode == ExitCode.PROVIDER
    assert uigc("verify", "--bundle", tiny_path, "--windows", 0).returncode == ExitCode.USAGE


# The optimizations under which a form is inexact, and the reason that the proof gives.
UNSAFE = {
    inexact_bundles.weights_alone: ({"extended", "all"}, "MatMulNBits"),
    inexact_bundles.no_zero_point: ({"basic", "extended", "all"}, "without a zero point"),
}


@pytest.mark.parametrize("edit", UNSAFE)
def test_unsafe_forms_are_caught(uigc: Run, tiny_path: Path, tmp_path: Path, edit: inexact_bundles.Edit) -> None:
    """ONNX Runtime rewrites them into other logits: verify fails with exit code 16, and the proof refuses them."""
    levels, text = UNSAFE[edit]
    path = inexact_bundles.spoil(tiny_path, tmp_path / "spoiled", edit)
    bundle = Bundle.load(path)
    with pytest.raises(ProofError, match=text):
        prove_file(bundle.graph("stage5", "int8"), token_domain(bundle.pad))
    done = uigc("verify", "--bundle", path, "--windows", 1, "--json", "out.json")
    assert done.returncode == ExitCode.MISMATCH == 16, done.stderr
    assert b"differ from the reference" in done.stderr
    outcomes = json.loads((tmp_path / "out.json").read_text())["outcomes"]
    wrong = {(each["precision"], each["optimization"]) for each in outcomes if each["different"]}
    assert wrong == {("int8", level) for level in levels}
