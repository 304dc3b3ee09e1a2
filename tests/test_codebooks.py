"""Codebooks are compared at one rate, by interpolation between the masks of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from uigc.bench import codebooks
from uigc.runtime.errors import InputError


def evaluation(codewords: int, points: list[tuple[float, float]], name: str = "kodak") -> dict[str, Any]:
    entries = [
        {
            "codec": "uigc",
            "pictures": [],
            "setting": mask,
            "means": {"bpp": bpp, "lpips_alex": lpips, "dists": lpips / 2, "psnr": 20.0},
        }
        for mask, (bpp, lpips) in zip(("entire", "edge", "edge_more"), points, strict=False)
    ]
    prior = {"id": f"{codewords:x}", "words": codewords, "bits_per_token": 6.0}
    return {"schema": 1, "data_set": {"name": name, "pictures": 2}, "prior": prior, "entries": entries}


def test_what_was_not_measured_is_named() -> None:
    other = evaluation(16, [(0.1, 0.1)])
    other["entries"][0]["means"]["dists"] = None
    with pytest.raises(InputError, match="lacks LPIPS or DISTS"):
        codebooks.compare([other], 0.02)
    with pytest.raises(InputError, match="lacks the prior"):
        codebooks.compare([{**other, "prior": None}], 0.02)


def test_the_best_codebook_at_a_rate_is_interpolated_between_the_masks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluations = {
        "large": evaluation(512, [(0.024, 0.30), (0.016, 0.40)]),
        "small": evaluation(256, [(0.022, 0.32), (0.018, 0.36), (0.015, 0.5)]),
        "tiny": evaluation(16, [(0.012, 0.1), (0.011, 0.2)]),
    }
    for name, value in evaluations.items():
        (tmp_path / name).write_text(json.dumps(value))
    codebooks.main([*(str(tmp_path / name) for name in evaluations), "--json", str(tmp_path / "out.json")])
    result = json.loads((tmp_path / "out.json").read_text())
    assert [each["words"] for each in result["rows"]] == [16, 256, 512]
    rates = [each["at_rate"] and each["at_rate"]["lpips_alex"] for each in result["rows"]]
    assert rates == [None, pytest.approx(0.34), pytest.approx(0.35)]
    assert result["best"] == 256
    assert "0.3400  0.1700  best" in capsys.readouterr().out


def test_evaluations_of_other_images_are_not_compared() -> None:
    with pytest.raises(InputError, match="different images"):
        codebooks.compare([evaluation(16, [(0.1, 0.1)]), evaluation(32, [(0.1, 0.1)], "other")], 0.02)
