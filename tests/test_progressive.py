"""Files that were cut: what is there is decoded as in the whole file, and the rest regenerated."""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import uigc
from tests.support.paths import ROOT
from uigc.runtime.cli.main import main
from uigc.runtime.codec import Codec
from uigc.runtime.errors import (
    CorruptFileError,
    ExitCode,
    PriorMismatchError,
    UigcError,
    UnrecognizedFileError,
    UnsupportedVersionError,
)
from uigc.runtime.format import bitstream
from uigc.runtime.io import image
from uigc.runtime.outcomes import capture
from uigc.runtime.progressive import PartialImage, ProgressiveDecoder, decompress_partial
from uigc.runtime.progressive.tokens import ProgressiveTokens

FOLDER = ROOT / "tests" / "golden"
LABELS = "entire", "edge", "edge_more", "edge_more+draw7"


def golden(label: str) -> tuple[bytes, np.ndarray, np.ndarray]:
    """A file, its decoder's grid, and which of its tokens were sent."""
    content = json.loads((FOLDER / "coffee.json").read_text())
    data = (FOLDER / f"coffee-{label}.uigc").read_bytes()
    return data, np.array(content["grids"][label]), np.array(content["sent"][label], dtype=bool)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(threads=1)


@pytest.mark.parametrize("label", LABELS)
def test_every_cut_of_a_golden_file(codec: Codec, label: str) -> None:
    """Byte by byte: never a wrong token, never fewer than before, and the mask is there from one byte on."""
    data, whole, sent = golden(label)
    tokens, counts, refused = ProgressiveTokens(codec.token_codec), [0], 0
    for there in range(len(data)):
        tokens.feed(data[there : there + 1])
        try:
            received = tokens.received()
        except CorruptFileError:
            refused += 1
            assert len(counts) == 1
            continue
        assert not (received & ~sent).any()
        walk = tokens._stages.begun or tokens._stages.walk
        assert np.array_equal(walk.inside(walk.result, whole.shape)[received], whole[received])
        counts.append(int(received.sum()))
        assert counts[-1] >= counts[-2]
        assert tokens.is_whole == (there == len(data) - 1)
    header = len(data) - len(bitstream.unpack(data)[1])
    assert refused == header - 1 if label == "entire" else header < refused < header + 60
    assert counts[-1] == sent.sum()
    assert len(set(counts)) > 150
    assert np.array_equal(tokens.grid(), whole)


@pytest.mark.parametrize("label", LABELS)
def test_a_cut_file_gives_the_grid_that_its_certain_tokens_give(codec: Codec, label: str) -> None:
    """The rest is what the prior regenerates, in the file's mode, when nothing but those was sent."""
    data, whole, sent = golden(label)
    truth = np.array(json.loads((FOLDER / "coffee.json").read_text())["tokens"], dtype=np.int32)
    seed, before = bitstream.read_header(data).seed, -1
    for share in (0.3, 0.55, 0.9):
        found = decompress_partial(data[: int(share * len(data))], codec)
        assert (found.sent == sent).all()
        assert before < found.received.sum() < sent.sum()
        assert not found.is_whole
        assert np.array_equal(found.grid[found.received], whole[found.received])
        wanted = codec.token_codec.prior.regenerate([truth], [found.received], seed)[0]
        assert np.array_equal(found.grid, wanted)
        assert np.array_equal(found.image, codec.detokenize(wanted)[: found.image.shape[0], : found.image.shape[1]])
        assert found.image.shape == (400, 600, 3)
        before = int(found.received.sum())


def test_one_byte_less_than_the_whole(codec: Codec) -> None:
    """All but the check is there, and it is not taken for the whole."""
    data, _, sent = golden("edge")
    found = decompress_partial(data[:-1], codec)
    assert not found.is_whole
    assert found.received.sum() >= sent.sum() - 8
    assert "the checksum cannot be verified" in found.summary


def fed(codec: Codec, data: bytes, block: int) -> list[tuple[int, PartialImage]]:
    decoder, found = ProgressiveDecoder(codec), []
    for begin in range(0, len(data), block):
        seen = decoder.feed(data[begin : begin + block])
        if seen is not None:
            found.append((min(begin + block, len(data)), seen))
    return found


@pytest.mark.parametrize("block", [23, 60])
def test_images_as_bytes_arrive(tiny: Codec, block: int) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (300, 420, 3), np.uint8)
    data = tiny.compress(pixels, "edge+draw3")
    found = fed(tiny, data, block)
    assert len(found) >= 2
    stages = [each.stages for _, each in found]
    assert stages == sorted(stages)
    assert stages[-1] == 6
    for there, each in found[:-1]:
        alone = decompress_partial(data[:there], tiny)
        assert np.array_equal(each.grid, alone.grid)
        assert np.array_equal(each.received, alone.received)
        assert np.array_equal(each.image, alone.image)
        assert not each.is_whole
    last = found[-1][1]
    assert last.is_whole
    assert (last.received == last.sent).all()
    assert np.array_equal(last.image, tiny.decompress(data))


def test_stages_that_are_complete_are_not_run_again(tiny: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny.compress(np.random.default_rng(4).integers(0, 256, (300, 420, 3), np.uint8))
    tokens, looks = ProgressiveTokens(tiny.token_codec), []
    kind = type(tiny.token_codec.prior)
    look = kind.look
    monkeypatch.setattr(kind, "look", lambda prior, stage, walk: looks.append(stage) or look(prior, stage, walk))
    for begin in range(0, len(data), 7):
        tokens.feed(data[begin : begin + 7])
    assert looks == list(range(6))


@pytest.mark.parametrize("label", LABELS)
def test_a_file_that_ends_in_its_header_or_mask_says_so(codec: Codec, label: str) -> None:
    data, _, _ = golden(label)
    with pytest.raises(UnrecognizedFileError, match="empty"):
        decompress_partial(b"", codec)
    header = len(data) - len(bitstream.unpack(data)[1])
    for there in (2, 12, 14, header - 1):
        with pytest.raises(CorruptFileError, match=rf"^The file is truncated: it ends after {there} bytes and"):
            decompress_partial(data[:there], codec)
    if label != "entire":
        for there in (header, header + 3):
            with pytest.raises(CorruptFileError, match=rf"ends after {there} bytes, before its mask does, and nothing"):
                decompress_partial(data[:there], codec)


def test_a_whole_file_is_verified_as_ever(tiny: Codec) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (50, 70, 3), np.uint8)
    data = tiny.compress(pixels)
    found = decompress_partial(data, tiny)
    assert found.is_whole
    assert found.summary.startswith("The file is whole")
    assert np.array_equal(found.image, tiny.decompress(data))
    broken = data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]
    for other in (broken, data + b"\0"):
        with pytest.raises(CorruptFileError) as wanted:
            tiny.decompress(other)
        with pytest.raises(CorruptFileError) as raised:
            decompress_partial(other, tiny)
        assert str(raised.value) == str(wanted.value)


def test_a_failure_stays(tiny: Codec) -> None:
    data = tiny.compress(np.random.default_rng(4).integers(0, 256, (300, 420, 3), np.uint8))
    for bad in (data[:-1] + bytes([data[-1] ^ 1]), data + b"0"):
        decoder = ProgressiveDecoder(tiny)
        with pytest.raises(UigcError) as first:
            decoder.feed(bad)
        with pytest.raises(UigcError) as later:
            decoder.feed(b"0")
        assert later.value is first.value
        with pytest.raises(UigcError) as later:
            decoder.picture()
        assert later.value is first.value


def test_a_stage_that_fails_is_not_received(tiny: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny.compress(np.random.default_rng(4).integers(0, 256, (300, 420, 3), np.uint8))
    tokens, kind = ProgressiveTokens(tiny.token_codec), type(tiny.token_codec.prior)

    def fails(*given: object) -> None:
        raise MemoryError

    tokens.feed(data[: len(data) // 2])
    complete, before = tokens.complete, tokens.received()
    with monkeypatch.context() as patch:
        patch.setattr(kind, "step", fails)
        with pytest.raises(MemoryError):
            tokens.feed(data[len(data) // 2 :])
    assert tokens.complete == complete
    assert np.array_equal(tokens.received(), before)


def test_what_can_never_become_a_file_of_this_codec_is_refused_at_once(tiny: Codec) -> None:
    data = tiny.compress(np.zeros((40, 40, 3), np.uint8))
    for start, error in (
        (b"GIF8", UnrecognizedFileError),
        (data[:3] + b"\x07" + data[4:20], UnsupportedVersionError),
        (data[:4] + b"\x10" + data[5:20], UnsupportedVersionError),
        (data[:5] + b"\0\0\0\0" + data[9:-1], PriorMismatchError),
    ):
        with pytest.raises(error):
            ProgressiveDecoder(tiny).feed(start)


def test_in_one_call() -> None:
    """With a default codec."""
    data = golden("edge_more")[0][:300]
    found = uigc.decompress_partial(data)
    assert found.image.shape == (400, 600, 3)
    decoder = uigc.ProgressiveDecoder()
    seen = decoder.feed(data)
    assert seen is not None
    assert np.array_equal(seen.image, found.image)


@pytest.fixture(scope="module")
def small(tiny: Codec) -> Codec:
    """The tiny codec, for images of which a test has time for hundreds."""
    return Codec(tiny.bundle, threads=1, max_pixels=1 << 16)


def in_blocks(codec: Codec, data: bytes, blocks: list[int]) -> PartialImage:
    """The image of what is there, fed in blocks of these sizes, again and again."""
    decoder, sizes = ProgressiveDecoder(codec), cycle(blocks)
    while data:
        size = next(sizes)
        decoder.feed(data[:size])
        data = data[size:]
    return decoder.picture()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_hostile_beginnings(small: Codec, data: st.DataObject) -> None:
    """Bytes altered and cut anywhere, in blocks of any size: an image with what it states, or an error of ours."""
    shape = data.draw(st.sampled_from([(5, 9, 3), (40, 90, 3), (130, 64, 3)]))
    file = bytearray(small.compress(np.full(shape, 99, np.uint8), data.draw(st.sampled_from(LABELS))))
    for place in data.draw(st.lists(st.integers(0, len(file) - 1), max_size=4)):
        file[place] = data.draw(st.integers(0, 255))
    there = bytes(file[: data.draw(st.integers(0, len(file)))]) + data.draw(st.binary(max_size=12))
    blocks = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=8))
    found = capture(lambda: in_blocks(small, there, blocks))
    if isinstance(found, UigcError):
        assert type(found) is not UigcError, found
        assert str(found).isprintable()
        return
    beginning = bitstream.unpack_beginning(there)
    assert beginning is not None
    assert found.image.dtype == np.uint8
    assert found.image.shape == (beginning.header.height, beginning.header.width, 3)
    assert not (found.received & ~found.sent).any()
    assert 0 <= found.grid.min() <= found.grid.max() < small.bundle.codebook
    if found.is_whole:
        assert np.array_equal(found.image, small.decompress(there))


def test_the_command(tiny: Codec, tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file and many: the cut one gives its image and a warning with --partial, and is refused without."""
    data = tiny.compress(np.random.default_rng(4).integers(0, 256, (300, 420, 3), np.uint8))
    files = {"whole": data, "cut": data[: len(data) * 2 // 3], "header": data[:15], "shorter": data[: len(data) // 2]}
    names = {name: tmp_path / f"{name}.uigc" for name in files}
    for name, content in files.items():
        names[name].write_bytes(content)
    common = ["--bundle", str(tiny_path), "--threads", "1"]
    out = tmp_path / "out.png"
    assert main(["decompress", str(names["cut"]), str(out), *common]) == ExitCode.CORRUPT_FILE
    refusal = capsys.readouterr().err
    with pytest.raises(CorruptFileError) as raised:
        tiny.decompress(files["cut"])
    assert str(raised.value) in refusal
    assert main(["decompress", "--partial", str(names["cut"]), str(out), *common]) == 0
    found = decompress_partial(files["cut"], tiny)
    said = f"{names['cut']}: {found.summary}"
    assert f" {found.received.sum()} of {found.sent.sum()} sent tokens are there; the rest is regenerated" in said
    assert f"uigc: warning: {said}" in capsys.readouterr().err
    assert np.array_equal(image.read(out.read_bytes()), found.image)
    assert main(["decompress", "--partial", str(names["whole"]), str(out), "--force", *common]) == 0
    assert "warning" not in capsys.readouterr().err
    assert np.array_equal(image.read(out.read_bytes()), tiny.decompress(data))
    many = ["decompress", "--partial", *map(str, names.values()), "-o", f"{tmp_path}/many/", *common, "--jobs", "3"]
    assert main(many) == ExitCode.CORRUPT_FILE
    err = capsys.readouterr().err
    assert said in err
    assert f"{names['shorter']}: {decompress_partial(files['shorter'], tiny).summary}" in err
    assert err.count("The file was cut") == 2
    assert f"{names['header']}: The file is truncated: it ends after 15 bytes and its header goes on" in err
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == ["cut.png", "shorter.png", "whole.png"]
    assert np.array_equal(image.read((tmp_path / "many" / "cut.png").read_bytes()), found.image)
