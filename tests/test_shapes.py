"""The comparison of priors of several shapes: their stages are timed, their bits come from the runs' reports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from uigc.bench import shapes
from uigc.runtime.codec import Codec
from uigc.runtime.errors import InputError

REPORT = {"step": 3, "seconds": 1.5, "held_out_bits_per_token": 3.25, "order0": 3.9, "time": {"forward": 0.5}}


@pytest.fixture
def run(tmp_path: Path, tiny_path: Path) -> Path:
    """A bundle's folder is read as a run's is."""
    folder = Path(shutil.copytree(tiny_path, tmp_path / "run"))
    (folder / shapes.LOG).write_text(json.dumps({"step": 1}) + "\n" + json.dumps(REPORT) + "\n")
    return folder


def test_a_row_tells_shape_bits_and_time(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shapes.main([str(run), "--size", "64x48", "--repeats", "2", "--json", str(tmp_path / "out.json")])
    (row,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert row["shape"] == {"width": 16, "layers": 2, "expansion": 2}
    assert row["held_out_bits_per_token"] == REPORT["held_out_bits_per_token"]
    assert (row["step"], row["ratio"]) == (3, 1.0)
    assert row["p50_ms"] > 0
    assert "3.250" in capsys.readouterr().out


def test_the_stages_are_those_of_the_bundle(run: Path, tiny: Codec) -> None:
    stages = shapes.Stages(run, 1)
    made = stages.on(130, 90)()
    tokens = np.random.default_rng(0).integers(0, 16, (1, 8, 16), np.int32)
    assert len(made) == 6
    for stage, logits in enumerate(made):
        assert np.array_equal(logits[0], tiny.token_codec.prior.load(stage)(tokens)[..., :16])


def test_a_run_without_a_report(run: Path) -> None:
    (run / shapes.LOG).write_text("")
    with pytest.raises(InputError, match="train the prior there"):
        shapes.learned(run)
