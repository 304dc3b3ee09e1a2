"""The id of a prior: a hash of everything that decides symbols.

It covers the prior's integer weights and configuration, the schedule, and the two tables of the entropy coder. The
bytes of the graphs are left out: they change with the exporter and the precision, and must not change a symbol.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

# Weights are dyadic, multiples of 2^-24: times this number, each is an integer.
STEPS = 1 << 24
_INTEGERS = 2.0**63  # what an int64 stays below


def prior_id(
    weights: Iterable[tuple[str, NDArray[np.floating]]],
    tables: Mapping[str, NDArray[np.int32]],
    config: Mapping[str, object],
    schedule: Mapping[str, object],
) -> bytes:
    """Return the SHA-256 (32 bytes); .uigc files carry its first 4.

    ``weights`` are (name, array) pairs in the order of their names; each array enters as its name, its shape and its
    values times 2^24 as little-endian int64.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps([config, schedule], sort_keys=True, separators=(",", ":")).encode())
    for name, array in weights:
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
            scaled = array.astype(np.float64) * STEPS
        integers = np.rint(scaled)
        if not np.array_equal(scaled, integers) or (np.abs(integers) >= _INTEGERS).any():
            raise ValueError(f"{name} is not dyadic: it holds values that are not multiples of 2^-24.")
        _add(digest, name, integers.astype("<i8"))
    for name in sorted(tables):
        _add(digest, name, tables[name].astype("<i8"))
    return digest.digest()


def _add(digest: hashlib._Hash, name: str, array: NDArray[np.int64]) -> None:
    digest.update(f"{name}{list(array.shape)}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
