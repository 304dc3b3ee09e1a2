"""Decodes with another version of uigc when told to. ``peer.py`` runs this file with an interpreter that has one.

Arguments: a file of raw samples uint8, height, width, threads, mask. It prints one line of JSON with the prior and the
bytes of the file; after that, for every line that it reads, it decodes the file and prints the seconds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from uigc.runtime.codec import Codec


def main(path: str, height: str, width: str, threads: str, mask: str) -> None:
    pixels = np.frombuffer(Path(path).read_bytes(), np.uint8).reshape(int(height), int(width), 3)
    codec = Codec(threads=int(threads))
    data = codec.compress(pixels, mask)
    print(json.dumps({"prior": codec.bundle.prior_id.hex(), "bytes": len(data)}), flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        codec.decompress(data)
        print(time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
