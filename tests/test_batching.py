"""Many images at once: the same bytes, tokens and pixels as one by one, in order, whichever of them fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from uigc.runtime.batching import in_batches
from uigc.runtime.codec import Codec
from uigc.runtime.errors import (
    CorruptFileError,
    ExitCode,
    InexactError,
    InputError,
    UigcError,
    UnrecognizedFileError,
    UsageError,
)
from uigc.runtime.exactness.conformance import context
from uigc.runtime.format import bitstream
from uigc.runtime.limits import BATCH_PIXELS
from uigc.runtime.outcomes import unwrap
from uigc.runtime.spans import Recorder, recording

RNG = np.random.default_rng(23)
SIZES = [(40, 70), (33, 65), (128, 130), (48, 80), (40, 70), (130, 128), (1, 1)]  # four of them have grids of 3x5
IMAGES = [RNG.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


@pytest.fixture(scope="module")
def files(tiny: Codec) -> list[bytes]:
    return [tiny.compress(image) for image in IMAGES]


def test_logits_of_a_batch_are_those_of_single_images(tiny: Codec) -> None:
    grids = RNG.integers(0, tiny.bundle.codebook, (5, 24, 16), dtype=np.int32)
    for stage in range(len(tiny.bundle.schedule)):
        tokens = context(tiny.bundle, grids, stage, 0)
        graph = tiny.token_codec.prior.load(stage)
        assert np.array_equal(graph(tokens), np.concatenate([graph(one[None]) for one in tokens]))


@pytest.mark.parametrize(("batch", "jobs"), [(None, 2), (1, 1), (3, 1), (4, 3)])
def test_nothing_changes(tiny: Codec, files: list[bytes], batch: int | None, jobs: int) -> None:
    for mask in ("entire", "edge"):
        singly = files if mask == "edge" else [tiny.compress(image, mask) for image in IMAGES]
        assert list(tiny.compress_many(IMAGES, mask, batch=batch, jobs=jobs)) == singly
    for file, image in zip(files, tiny.decompress_many(files, batch=batch, jobs=jobs), strict=True):
        assert np.array_equal(unwrap(image), tiny.decompress(file))


def test_images_of_one_size_share_the_networks(tiny: Codec, files: list[bytes]) -> None:
    for batch, calls in ((1, len(files)), (4, 4)):
        with recording(Recorder()) as recorder:
            assert len(list(tiny.decompress_many(files, batch=batch, jobs=2))) == len(files)
        assert sum(step.name == "decoder" for step in recorder.spans) == calls
        assert threading.get_ident() not in {step.thread for step in recorder.spans if step.name == "decoder"}


def test_large_images_are_not_batched(tiny: Codec) -> None:
    assert tiny._batch_size(8, 512, 768) == 8
    assert tiny._batch_size(8, 2160, 3840) == BATCH_PIXELS // (2160 * 3840) == 1
    assert tiny._batch_size(8, 16384, 16384) == 1


def test_a_bad_file_stops_no_other(tiny: Codec, files: list[bytes]) -> None:
    header, payload = bitstream.unpack(files[0])
    noise = bitstream.pack(header, RNG.bytes(len(payload)))
    given = [b"some other file", files[0], noise, files[1][:-1], InputError("unreadable"), files[4]]
    found = list(tiny.decompress_many(given, batch=4, jobs=2))
    kinds = [type(outcome) if isinstance(outcome, UigcError) else None for outcome in found]
    assert kinds == [UnrecognizedFileError, None, InexactError, CorruptFileError, InputError, None]
    for index in (1, 5):
        assert np.array_equal(unwrap(found[index]), tiny.decompress(unwrap(given[index])))
    refused = list(tiny.compress_many([IMAGES[0], np.zeros((0, 3, 3), np.uint8), IMAGES[1][:, :, :2]]))
    assert [isinstance(outcome, bytes) for outcome in refused] == [True, False, False]


def test_sources_are_taken_as_they_are_needed(tiny: Codec, files: list[bytes]) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield files[0]

    images = tiny.decompress_many(endless(), batch=2, jobs=2)
    for count in range(1, 20):
        assert unwrap(next(images)).shape == (40, 70, 3)
        assert taken <= count + 2 * (2 + 1) + 4 * 2  # batches in progress, and images looked through
    images.close()
    end_of_threads()


def end_of_threads() -> None:
    """Wait for the threads of batches, which have nothing more to do."""
    for thread in threading.enumerate():
        if thread.name.startswith("uigc"):
            thread.join(60)
            assert not thread.is_alive()


def test_what_is_abandoned_waits_for_no_batch() -> None:
    """The garbage collector closes it, maybe while its thread holds a lock that a batch needs."""
    free, begun = threading.Event(), threading.Event()

    def work(values: list[int]) -> list[int]:
        if values != [0]:
            begun.set()
            assert free.wait(60)
        return values

    results = in_batches(range(9), int, int, lambda _: 1, work, jobs=2)
    assert next(results) == 0
    assert begun.wait(60)
    results.close()
    assert [thread for thread in threading.enumerate() if thread.name.startswith("uigc")]
    free.set()
    end_of_threads()


def test_order_and_failures_of_whole_batches() -> None:
    def work(values: list[int]) -> list[int]:
        if 5 in values:
            raise InputError(f"{len(values)} failed")
        return [10 * value for value in values]

    outcomes = list(
        in_batches(
            range(11),
            prepare=lambda value: value,
            key=lambda value: value % 3,
            batch=lambda value: 2,
            work=work,
            jobs=3,
        )
    )
    failed = {number for number, outcome in enumerate(outcomes) if isinstance(outcome, InputError)}
    assert failed == {2, 5}
    assert all(outcomes[number] == 10 * number for number in set(range(11)) - failed)


def test_a_bug_ends_nothing_but_its_batch() -> None:
    """Whatever is raised becomes an error with its name and its cause; only Ctrl-C and the like pass."""

    def work(values: list[int]) -> list[float]:
        return [1 / value for value in values]

    found = list(in_batches([1, 0, 2], lambda value: value, lambda value: 0, lambda value: 1, work, 1))
    assert (found[0], found[2]) == (1, 0.5)
    assert isinstance(found[1], UigcError)
    assert isinstance(found[1].__cause__, ZeroDivisionError)
    assert (found[1].exit_code, "ZeroDivisionError" in str(found[1])) == (ExitCode.INTERNAL, True)
    prepared = list(in_batches([1, 0], lambda value: 1 / value, lambda value: 0, lambda value: 1, lambda v: v, 1))
    assert isinstance(prepared[1].__cause__, ZeroDivisionError)

    def interrupted(value: int) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(in_batches([1], interrupted, lambda value: 0, lambda value: 1, work, 1))


def test_counts_make_sense(tiny: Codec, files: list[bytes]) -> None:
    with pytest.raises(UsageError, match="0 jobs"):
        tiny.decompress_many(files, batch=1, jobs=0)
    with pytest.raises(UsageError, match="Batches of 0"):
        tiny.compress_many(IMAGES, batch=0)
    with pytest.raises(UsageError, match="choose one of"):
        tiny.compress_many(IMAGES, "edges")
