"""Files and bundles of earlier versions: read, or refused in a sentence that says what to do (docs/VERSIONING.md)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import Codec
from uigc.runtime.errors import BundleError, PriorMismatchError
from uigc.runtime.format.bitstream import VERSION, read_header

EARLIER = ROOT / "tests" / "earlier"


def test_a_file_of_an_earlier_prior_is_refused_by_name(tiny: Codec) -> None:
    """Its header is read for ever; its symbols need the bundle of its prior."""
    data = (EARLIER / "first-prior.uigc").read_bytes()
    header = read_header(data)
    assert (header.version, header.width, header.height, header.prior_id.hex()) == (VERSION, 600, 400, "d085c66e")
    with pytest.raises(PriorMismatchError, match="d085c66e"):
        tiny.decompress(data)


@pytest.mark.parametrize(
    ("name", "text"), [("bundle-1", "has version 1 and this runtime reads 2 to 4"), ("bundle-unsealed", "has 0 seals")]
)
def test_earlier_bundles_are_refused(tiny_path: Path, tmp_path: Path, name: str, text: str) -> None:
    folder = Path(shutil.copytree(tiny_path, tmp_path / "bundle"))
    shutil.copy(EARLIER / f"{name}.json", folder / "manifest.json")
    with pytest.raises(BundleError, match=text):
        Bundle.load(folder)
