"""A program that forks while it uses a codec: ``BUNDLE PROVIDER one|both``, after compressing or decompressing, too."""

from __future__ import annotations

import os
import sys

import numpy as np

from uigc.runtime.codec import Codec

FORKING = (sys.executable, "-m", "tests.support.forking")


def main(bundle: str, provider: str, used: str) -> None:
    codec = Codec(bundle, provider=provider, threads=2)
    pixels = np.random.default_rng(0).integers(0, 256, (100, 140, 3), dtype=np.uint8)
    data = codec.compress(pixels)
    if used == "both":
        codec.decompress(data)
    if os.fork() == 0:
        assert codec.compress(pixels) == data
        assert codec.decompress(data).shape == pixels.shape
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
    assert codec.compress(pixels) == data  # and the parent goes on


if __name__ == "__main__":
    main(*sys.argv[1:])
