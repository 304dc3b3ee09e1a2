"""The decoder in JavaScript, in Node.js with ONNX Runtime for the web: the same grids, the same refusals."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.support.earlier_bundles import as_version_3
from tests.support.paths import ROOT
from tests.support.web import WEB, answer_command, answers
from uigc.export.decoder_only import write_decoder
from uigc.fuzz.corpus import CORPUS, LISTING
from uigc.fuzz.stand_in import MAX_PIXELS
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.bundle import default_path
from uigc.runtime.bundle.seal import sealed
from uigc.runtime.codec import Codec
from uigc.runtime.conformance import kit as conformance
from uigc.runtime.conformance.decoders import Decoder
from uigc.runtime.conformance.judge import judge_files, judge_stages
from uigc.runtime.progress import silent

GOLDEN = ROOT / "tests" / "golden"
MASKS = ("entire", "edge", "edge_more", "edge_more+draw7")


@pytest.fixture(scope="module")
def decoder_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("web") / "bundle"
    write_decoder(Bundle.load(), out, False, lambda text: None)
    return out


def sha256_of(numbers: object) -> str:
    return hashlib.sha256(np.asarray(numbers, "<i4").tobytes()).hexdigest()


def test_golden_files_and_logits(decoder_bundle: Path, tmp_path: Path) -> None:
    """Grids and logits are equal; pixels, which are free, are close."""
    grids = json.loads((GOLDEN / "coffee.json").read_text())["grids"]
    vectors = json.loads((GOLDEN / "logits.json").read_text())["vectors"]
    spaced = tmp_path / "a folder" / "of  mine.uigc"
    spaced.parent.mkdir()
    shutil.copy(GOLDEN / "coffee-edge.uigc", spaced)
    requests = [*(f"decode {GOLDEN / f'coffee-{mask}.uigc'}" for mask in MASKS), f"decode {spaced}"]
    expected = [f"grid {sha256_of(grids[mask])}" for mask in (*MASKS, "edge")]
    for number, vector in enumerate(vectors):
        tokens = np.asarray(vector["tokens"], "<i4")
        (tmp_path / f"{number}.i32").write_bytes(tokens.tobytes())
        requests.append(f"logits {vector['stage']} {' '.join(map(str, tokens.shape))} {tmp_path / f'{number}.i32'}")
        expected.append(f"logits {vector['logits_sha256']}")
    requests += [f"paint {GOLDEN / 'coffee-edge.uigc'} {tmp_path / 'rgb'}", f"decode {tmp_path / 'none'}"]
    given, complaints = answers(decoder_bundle, requests)
    assert given == [*expected, "pixels 600 400", "refused UigcError"]
    assert complaints == [f"{tmp_path / 'none'} cannot be read (ENOENT): check its name."]
    image = np.frombuffer((tmp_path / "rgb").read_bytes(), np.uint8).reshape(400, 600, 3)
    with Codec(decoder_bundle, threads=1) as codec:
        difference = np.abs(image - codec.decompress(GOLDEN / "coffee-edge.uigc").astype(int))
    # int8 kernels round sums in another order, and a rounded activation moves its surroundings
    assert difference.mean() < 0.25
    assert difference.max() <= 8


def test_hostile_files(decoder_bundle: Path) -> None:
    """Every file of the corpus is decoded or refused as the package does it, in one sentence."""
    lines = [line.split("\t") for line in (CORPUS / LISTING).read_text().splitlines()[1:]]
    with Codec(decoder_bundle, threads=1) as codec:
        expected = [
            f"grid {sha256_of(codec.decode_tokens((CORPUS / 'files' / name).read_bytes()))}"
            if outcome == "grid"
            else f"refused {outcome}"
            for name, outcome, *_ in lines
        ]
    requests = [f"decode {CORPUS / 'files' / name}" for name, *_ in lines]
    given, sentences = answers(decoder_bundle, requests, MAX_PIXELS)
    assert dict(zip(requests, given, strict=True)) == dict(zip(requests, expected, strict=True))
    refused = [answer for answer in given if answer.startswith("refused")]
    assert len(sentences) == len(refused) > 30
    assert all(sentence.endswith(".") and sentence[0].isupper() for sentence in sentences)


@pytest.mark.parametrize("version", [3, 4])
def test_conformance_with_another_bundle(tiny_path: Path, tiny: Codec, tmp_path: Path, version: int) -> None:
    """The kit also tests shapes and faults that the corpus has not. In version 3, stages return logits alone."""
    folder = tiny_path if version == 4 else as_version_3(tiny_path, tmp_path / "bundle")
    with Codec(tiny_path, threads=1, max_pixels=conformance.MAX_PIXELS) as codec:
        conformance.write(codec.token_codec, tmp_path / "kit", False, silent)
    kit = conformance.Kit.load(tmp_path / "kit")
    command = shlex.join(answer_command(folder, conformance.MAX_PIXELS))
    decoder = Decoder(command, "{file}", 60, {})
    try:
        verdicts = [
            *judge_files(kit, lambda entry: decoder.ask(f"decode {kit.path / entry['file']}", {}), limited=True),
            *judge_stages(kit, lambda entry: decoder.ask(stage_request(kit, entry), {})),
        ]
    finally:
        decoder.close()
    assert [str(verdict) for verdict in verdicts if not verdict.passed] == []
    file = tmp_path / "image.uigc"
    file.write_bytes(tiny.compress(np.arange(48 * 70 * 3, dtype=np.uint32).astype(np.uint8).reshape(48, 70, 3)))
    assert answers(tiny_path, [f"paint {file} {tmp_path / 'rgb'}"])[0] == ["pixels 70 48"]
    image = np.frombuffer((tmp_path / "rgb").read_bytes(), np.uint8).reshape(48, 70, 3)
    assert np.abs(image - tiny.decompress(file).astype(int)).max() <= 1


def stage_request(kit: conformance.Kit, entry: dict[str, object]) -> str:
    shape = (entry[key] for key in ("stage", "batch", "rows", "columns"))
    return f"logits {' '.join(map(str, shape))} {kit.path / str(entry['tokens'])}"


FAULTS = {
    "missing": lambda folder: (folder / "stage3.int8.onnx").unlink(),
    "cut": lambda folder: (folder / "weights.safetensors").write_bytes(b"cut"),
    "edited": lambda folder: edit(folder, '"window": 16', '"window": 32'),
    "newer": lambda folder: reseal(folder, version=5),
    "older": lambda folder: reseal(folder, version=3),
    "no-output": lambda folder: reseal(folder, graphs=without_outputs(folder)),
    "foreign": lambda folder: reseal(folder, format="other"),
    "no-stage": lambda folder: reseal(folder, graphs={}),
    "no-json": lambda folder: (folder / "manifest.json").write_bytes(b"[]"),
    "outside": lambda folder: reseal(folder, weights={"file": "../weights", "bytes": 1, "sha256": "0" * 64}),
}


def without_outputs(folder: Path) -> dict[str, object]:
    graphs = json.loads((folder / "manifest.json").read_text())["graphs"]
    return {name: {**graph, "outputs": [None]} for name, graph in graphs.items()}


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace(old, new))


def reseal(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_bytes(sealed({**json.loads(path.read_text()), **changes}))


def test_damaged_bundles_are_refused(decoder_bundle: Path, tmp_path: Path) -> None:
    script = WEB / "test" / "open.js"
    folders = []
    for name, damage in FAULTS.items():
        folders.append(tmp_path / name)
        shutil.copytree(decoder_bundle, folders[-1])
        damage(folders[-1])
    answer_command(decoder_bundle)  # skips where there are no packages
    done = subprocess.run(["node", script, *folders], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["kind"] for each in found] == ["BundleError"] * len(FAULTS)
    assert {each["exitCode"] for each in found} == {10}


def test_the_default_bundle_works_as_it_is(tmp_path: Path) -> None:
    file = GOLDEN / "coffee-edge_more+draw7.uigc"
    grid = json.loads((GOLDEN / "coffee.json").read_text())["grids"]["edge_more+draw7"]
    assert answers(default_path(), [f"decode {file}", "hello"])[0] == [f"grid {sha256_of(grid)}", "unsupported"]


def test_files_stay_small() -> None:
    for path in [*WEB.glob("*.js"), *WEB.glob("uigc/*.js"), *WEB.glob("node/*.js"), *WEB.glob("test/*.js")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path


def test_pinned_packages_and_no_lock_file() -> None:
    package = json.loads((WEB / "package.json").read_text())
    versions = {**package["dependencies"], **package["devDependencies"]}
    assert all(version.replace(".", "").isdigit() for version in versions.values())


def test_tiles_and_the_choice_of_a_provider() -> None:
    answer_command(default_path())  # skips where Node.js is missing
    done = subprocess.run(["node", "--test", WEB / "test" / "units.js"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout
