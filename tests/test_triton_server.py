"""The model repository served by Triton's own server, where nvidia-pytriton is installed (docs/SERVERS.md)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.support.triton_server import Server, serve
from uigc.export.triton import MODEL, write_repository
from uigc.runtime.codec import Codec

PIXELS = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def codec() -> Iterator[Codec]:
    """The codec that the model's configuration describes."""
    with Codec(threads=2) as codec:
        yield codec


@pytest.fixture(scope="module")
def server(codec: Codec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("triton")
    write_repository(codec.bundle, folder / "models")
    (folder / "work").mkdir()
    with serve(folder / "models", MODEL, folder / "work") as server:
        yield server


def infer(server: Server, data: bytes) -> tuple[int, object]:
    """Return the image that the model gives for a file, or the status and the error."""
    tensor = {"name": "file", "shape": [len(data)], "datatype": "UINT8", "data": list(data)}
    status, found = server.ask("POST", f"/v2/models/{MODEL}/infer", {"inputs": [tensor]})
    if status != 200:
        return status, found["error"]
    (output,) = found["outputs"]
    assert (output["name"], output["datatype"]) == ("image", "UINT8")
    return status, np.array(output["data"], np.uint8).reshape(output["shape"])


def test_what_the_server_says_of_the_model(server: Server) -> None:
    status, found = server.ask("GET", f"/v2/models/{MODEL}")
    assert (status, found["platform"]) == (200, "python")
    assert found["inputs"] == [{"name": "file", "datatype": "UINT8", "shape": [-1]}]
    assert found["outputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, 3]}]


def test_images_are_those_of_the_codec_and_refusals_are_errors_of_their_request(server: Server, codec: Codec) -> None:
    """Files of several sizes and hostile ones, all at a time."""
    good = [codec.compress(PIXELS[: 20 + 10 * index], mask) for index, mask in enumerate(("entire", "edge+draw7") * 3)]
    hostile = [b"junk", good[0][:-1], good[1][:5], b"\0"]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda data: infer(server, data), [*good, *hostile]))
    for (status, image), data in zip(found[: len(good)], good, strict=True):
        assert status == 200
        np.testing.assert_array_equal(image, codec.decompress(data))
    errors = [(status, str(error).partition(": ")[0]) for status, error in found[len(good) :]]
    kinds = ["UnrecognizedFileError", "CorruptFileError", "CorruptFileError", "UnrecognizedFileError"]
    assert errors == [(500, kind) for kind in kinds]
    assert server.ask("GET", "/v2/health/ready")[0] == 200
