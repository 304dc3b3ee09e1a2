"""Golden files of the bundle that ships: what a port to another language is tested with.

``tests/golden/coffee.json`` holds the token grid of the sample photograph and, for each mask mode, the edge bits and
the grid that a decoder ends with; beside it lie the complete files. ``UIGC_REGENERATE=1`` writes them anew; a missing
file is an error. A change here is a change of the format or of the prior, and belongs into the CHANGELOG.
"""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from tests.conftest import ROOT, reference_grid
from uigc.runtime import Codec, bitstream
from uigc.runtime.mask import MODES, edge_blocks

FOLDER = ROOT / "tests" / "golden"


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec()


@pytest.fixture(scope="module")
def golden(codec: Codec, sample: np.ndarray) -> dict[str, object]:
    if os.environ.get("UIGC_REGENERATE") == "1":
        tokens = codec.tokenize(sample)
        content = {
            "prior": codec.bundle.prior_id.hex(),
            "tokens": tokens.tolist(),
            "edges": edge_blocks(sample, codec.bundle.patch).astype(int).tolist(),
            "grids": {},
        }
        for label, mode in MODES.items():
            encoded = codec.encode_tokens(tokens, sample, mode)
            (FOLDER / f"coffee-{label}.uigc").write_bytes(encoded.data)
            content["grids"][label] = encoded.grid.tolist()
        (FOLDER / "coffee.json").write_text(json.dumps(content) + "\n")
    return json.loads((FOLDER / "coffee.json").read_text())


def test_the_bundle_is_the_golden_one(codec: Codec, golden: dict[str, object]) -> None:
    assert codec.bundle.prior_id.hex() == golden["prior"]


def test_edges(codec: Codec, golden: dict[str, object], sample: np.ndarray) -> None:
    assert edge_blocks(sample, codec.bundle.patch).astype(int).tolist() == golden["edges"]


@pytest.mark.parametrize("label", MODES)
def test_files_decode_to_their_grids(codec: Codec, golden: dict[str, object], label: str) -> None:
    data = (FOLDER / f"coffee-{label}.uigc").read_bytes()
    assert codec.decode_tokens(data).tolist() == golden["grids"][label]
    assert reference_grid(codec, data) == golden["grids"][label]


@pytest.mark.parametrize("label", MODES)
def test_grids_encode_to_their_files(codec: Codec, golden: dict, sample: np.ndarray, label: str) -> None:
    tokens = np.array(golden["tokens"], dtype=np.int32)
    data = (FOLDER / f"coffee-{label}.uigc").read_bytes()
    assert codec.encode_tokens(tokens, sample, MODES[label]).data == data
    assert bitstream.pack(*bitstream.unpack(data)) == data


def test_another_machines_encoder_chooses_the_same_tokens_but_for_near_ties(
    codec: Codec, golden: dict, sample: np.ndarray
) -> None:
    """The encoder is an ordinary float network; the file format does not depend on it."""
    same = codec.tokenize(sample) == np.array(golden["tokens"])
    assert same.mean() > 0.995
