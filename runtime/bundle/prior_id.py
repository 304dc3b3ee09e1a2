"""The id of a prior: a hash of everything that decides symbols.

That is the prior's integer weights, its configuration, the schedule, and the two tables of the coder. The bytes of the
graphs are not in it: they change with the exporter and with the precision, and must not change a symbol.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

# Weights are dyadic: multiples of 2^-24, so that this many steps a unit makes each of them an integer.
STEPS = 1 << 24


def prior_id(
    weights: Iterable[tuple[str, NDArray[np.floating]]],
    tables: Mapping[str, NDArray[np.int32]],
    config: Mapping[str, object],
    schedule: Mapping[str, object],
) -> bytes:
    """SHA-256 (32 bytes); files carry its first 4.

    ``weights`` are (name, array) pairs in the order of their names; each array enters as its name, its shape and its
    values times 2^24 as little-endian int64.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps([config, schedule], sort_keys=True, separators=(",", ":")).encode())
    for name, array in weights:
        integers = array.astype(np.float64) * STEPS
        whole = np.rint(integers)
        if not np.array_equal(integers, whole):
            raise ValueError(f"{name} is not dyadic: it holds values that are no multiples of 2^-24.")
        _add(digest, name, whole.astype("<i8"))
    for name in sorted(tables):
        _add(digest, name, tables[name].astype("<i8"))
    return digest.digest()


def _add(digest: hashlib._Hash, name: str, array: NDArray[np.int64]) -> None:
    digest.update(f"{name}{list(array.shape)}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
