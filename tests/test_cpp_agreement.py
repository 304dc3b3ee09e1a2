"""Python and C++ agree on hostile inputs: on the error class, the token grid, and what a bundle holds.

The C++ side runs under sanitizers; docs/SECURITY.md states what a long run found.
"""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from tests.support.cpp import needs_compiler
from tests.support.paths import ROOT
from uigc.bench import embedding
from uigc.fuzz import agreement, agreement_bundles
from uigc.runtime import limits
from uigc.runtime.bundle import manifest, safetensors, strict_json
from uigc.runtime.format import bitstream, entropy_coder, mask_coding, schedule
from uigc.runtime.networks import outputs

RESULT = ROOT / "bench" / "results" / "cpp-agreement.json"
LIMITS = {
    "patch": bitstream.PATCH,
    "side": bitstream.MAX_SIDE,
    "pixels": limits.MAX_PIXELS,
    "whole_pixels": limits.WHOLE_PIXELS,
    "payload": bitstream.MAX_PAYLOAD,
    "file": bitstream.MAX_FILE,
    "logit": outputs.LARGEST_LOGIT,
    "codebook": 4096,
    "window": manifest.MAX_WINDOW,
    "tile": schedule.MAX_TILE,
    "halo": manifest.MAX_HALO,
    **manifest.SIZES,
    "weight": manifest.TABLES[manifest.CODER_TABLE][1],
    "probability": manifest.TABLES[manifest.MASK_TABLE][1],
    "farthest": entropy_coder.FARTHEST,
    "summed_exactly": entropy_coder.SUMMED_EXACTLY,
    "contexts": 1 << mask_coding.CONTEXT_BITS,
    "manifest": manifest.MAX_MANIFEST,
    "weights_header": safetensors._HEADER_LIMIT,
    "name": manifest.MAX_NAME,
    "dimensions": safetensors._MAX_DIMENSIONS,
    "json_depth": strict_json.MAX_DEPTH,
    "json_values": strict_json.MAX_VALUES,
    "json_number": strict_json.MAX_NUMBER,
    **{f"sums_{4 << double}": int(manifest.has_sums(4, 4 << double)) for double in range(11)},
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return agreement.build(tmp_path_factory.mktemp("agreement"))


@needs_compiler
def test_limits(program: Path) -> None:
    done = subprocess.run([program, "limits"], capture_output=True, text=True, check=True)
    assert {line.split()[0]: int(line.split()[1]) for line in done.stdout.splitlines()} == LIMITS


@needs_compiler
def test_files(program: Path) -> None:
    result = agreement.compare_files(program, 2000, random.Random(0))
    assert result.disagreements == []
    assert result.counts.total() == 2000
    assert result.counts["OK"] > 150
    assert len(result.counts) == 7  # grids, and errors of six kinds


@needs_compiler
def test_bundles(program: Path) -> None:
    result = agreement.compare_bundles(program, 300, random.Random(0))
    assert result.disagreements == []
    assert result.counts.total() == 300
    assert result.counts["OK"] > 30
    assert set(result.counts) == {"OK", "BUNDLE"}


def test_what_is_a_disagreement() -> None:
    wanted = {Path("a"): (0, "1 1 aa"), Path("b"): (8, ""), Path("c"): (8, "")}
    for code, out, crashes, disagreeing in (
        (0, "a 0 1 1 aa\nb 8 x y\nc 8 z\n", 0, ""),
        (0, "a 0 1 1 ab\nb 7 x y\nc 8 z\n", 0, "ab"),
        (0, "a 0 1 1 aa\nb 0 1 1 bb\n", 0, "bc"),
        (-11, "a 0 1 1 aa\n", 1, "b"),
    ):
        result = agreement.Result()
        found = agreement._judge(code, out, "said", wanted, result)
        assert "".join(path.name for path in found) == disagreeing
        assert (result.crashes, bool(result.disagreements)) == (crashes, bool(disagreeing))


def test_the_page_states_the_long_run() -> None:
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "SECURITY.md").read_text(encoding="utf-8")
    assert agreement.table(result) in page
    for kind, least in (("files", 100_000), ("bundles", 2000)):
        counts = result[kind]
        assert counts["inputs"] == counts["accepted"] + sum(counts["refused"].values()) >= least
        assert counts["disagreements"] == counts["crashes"] == 0


def test_the_page_on_embedding_states_its_run() -> None:
    result = json.loads((RESULT.parent / "embedding.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "EMBEDDING.md").read_text(encoding="utf-8")
    assert embedding.table(result) in page
    assert result["agreement"] == {"files": 96, "largest_difference": 0, "samples_that_differ": 0.0}
    assert "all 96 grids were equal, and so were all pixels" in page


def test_altered_bundles_are_altered_differently() -> None:
    made = list(agreement_bundles.bundles(300, random.Random(0)))
    assert len({json.dumps({name: str(data) for name, data in each.items()}) for each in made}) > 250
