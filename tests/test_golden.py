"""Golden files of the default bundle, with which ports to other languages are tested.

``tests/golden/coffee.json`` holds the token grid of the sample photograph and, for each mask mode and for sampling,
the tokens that are sent and the grid that a decoder ends with; the complete files lie beside it. ``logits.json`` holds
inputs of every stage with the SHA-256 of their logits (int32, little-endian, in the order of the graph's output) and
their first row, as the integer reference computes them. ``UIGC_REGENERATE=1`` writes them anew; a missing file is an
error. A change here is a change of the format or of the prior, and belongs in the CHANGELOG.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import numpy as np
import pytest

from tests.support.paths import ROOT
from tests.support.tiny import reference_grid
from uigc.runtime import providers
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.manifest import CODER_TABLE
from uigc.runtime.codec import Codec
from uigc.runtime.exactness.conformance import context
from uigc.runtime.exactness.reference import ReferencePrior, with_sums
from uigc.runtime.format import bitstream
from uigc.runtime.format.block_choice import edge_blocks
from uigc.runtime.format.mask import MODES
from uigc.runtime.providers import ProviderOptions

FOLDER = ROOT / "tests" / "golden"
LABELS = (*MODES, "edge_more+draw7")


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
            "gradients": edge_blocks(sample, codec.bundle.patch).astype(int).tolist(),
            "sent": {},
            "grids": {},
        }
        for label in LABELS:
            encoded = codec.encode_tokens(tokens, sample, label)
            (FOLDER / f"coffee-{label}.uigc").write_bytes(encoded.data)
            content["sent"][label] = encoded.sent.astype(int).tolist()
            content["grids"][label] = encoded.grid.tolist()
        (FOLDER / "coffee.json").write_text(json.dumps(content) + "\n")
    return json.loads((FOLDER / "coffee.json").read_text())


def digest(logits: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(logits, dtype="<i4").tobytes()).hexdigest()


@pytest.fixture(scope="module")
def vectors(codec: Codec, golden: dict[str, Any]) -> list[dict[str, Any]]:
    """Two inputs of each stage: its view on the sample's grid, and a batch of two grids of arbitrary tokens."""
    if os.environ.get("UIGC_REGENERATE") == "1":
        bundle = codec.bundle
        reference = ReferencePrior(bundle.weights.read, bundle.manifest["prior"]["config"], bundle.schedule)
        rng, content = np.random.default_rng(0), []
        for stage in range(len(bundle.schedule)):
            seen = context(bundle, np.array([golden["tokens"]], dtype=np.int32), stage, 0)
            wild = rng.integers(0, bundle.pad, (2, bundle.window, 2 * bundle.window), endpoint=True, dtype=np.int32)
            for tokens in (seen, wild):
                logits = reference.logits(tokens, stage)
                content.append(
                    {
                        "stage": stage,
                        "tokens": tokens.tolist(),
                        "logits_shape": list(logits.shape),
                        "logits_sha256": digest(logits),
                        "first_logits": logits[0, 0].tolist(),
                    }
                )
        text = json.dumps({"prior": bundle.prior_id.hex(), "vectors": content})
        (FOLDER / "logits.json").write_text(text + "\n")
    content = json.loads((FOLDER / "logits.json").read_text())
    assert content["prior"] == golden["prior"]
    return list(content["vectors"])


@pytest.mark.parametrize("precision", Bundle.load(recompute=False).precisions("stage0"))
def test_logits(codec: Codec, vectors: list[dict[str, Any]], precision: str) -> None:
    assert [vector["stage"] for vector in vectors] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    for vector in vectors:
        path = codec.bundle.graph(f"stage{vector['stage']}", precision)
        found = providers.find("cpu").load(path, ProviderOptions())(np.array(vector["tokens"], dtype=np.int32))
        logits = found[..., : codec.bundle.codebook]
        assert np.array_equal(found, with_sums(logits, codec.bundle.table(CODER_TABLE)))
        assert list(logits.shape) == vector["logits_shape"]
        assert logits[0, 0].tolist() == vector["first_logits"]
        assert digest(logits) == vector["logits_sha256"]


def test_the_bundle_is_the_golden_one(codec: Codec, golden: dict[str, object]) -> None:
    assert codec.bundle.prior_id.hex() == golden["prior"]


def test_gradients(codec: Codec, golden: dict[str, object], sample: np.ndarray) -> None:
    assert edge_blocks(sample, codec.bundle.patch).astype(int).tolist() == golden["gradients"]


@pytest.mark.parametrize("label", LABELS)
def test_files_decode_to_their_grids(codec: Codec, golden: dict[str, object], label: str) -> None:
    data = (FOLDER / f"coffee-{label}.uigc").read_bytes()
    assert codec.decode_tokens(data).tolist() == golden["grids"][label]
    assert reference_grid(codec, data) == golden["grids"][label]


@pytest.mark.parametrize("label", LABELS)
def test_grids_encode_to_their_files(codec: Codec, golden: dict, sample: np.ndarray, label: str) -> None:
    tokens = np.array(golden["tokens"], dtype=np.int32)
    data = (FOLDER / f"coffee-{label}.uigc").read_bytes()
    encoded = codec.encode_tokens(tokens, sample, label)
    assert encoded.data == data
    assert encoded.sent.astype(int).tolist() == golden["sent"][label]
    assert bitstream.pack(*bitstream.unpack(data)) == data


def test_another_machines_encoder_chooses_the_same_tokens_but_for_near_ties(
    codec: Codec, golden: dict, sample: np.ndarray
) -> None:
    """The encoder is an ordinary float network; the file format does not depend on it."""
    same = codec.tokenize(sample) == np.array(golden["tokens"])
    assert same.mean() > 0.995
