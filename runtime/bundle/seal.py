"""The seal of a manifest: a hash of its own bytes, so that damage and edits by hand are found before they are used.

It is the SHA-256 of the file with zeros in the place of the seal's 64 digits. Any language can check it without a rule
for how JSON is written. It is no signature: whoever means to can seal again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from uigc.runtime.errors import BundleError

KEY = "seal"
_BLANK = "0" * 64
_FIELD = re.compile(rb'"seal": "([0-9a-f]{64})"')


def sealed(manifest: Mapping[str, object]) -> bytes:
    """Return the bytes of ``manifest.json`` with its seal; a seal that it has already is replaced."""
    unsealed = {key: value for key, value in manifest.items() if key != KEY}
    return resealed((json.dumps({**unsealed, KEY: _BLANK}, indent=1) + "\n").encode())


def resealed(data: bytes) -> bytes:
    """Return the bytes of a manifest with the seal that fits them; unchanged unless they have exactly one."""
    found = list(_FIELD.finditer(data))
    if len(found) != 1:
        return data
    begin, end = found[0].span(1)
    seal = hashlib.sha256(data[:begin] + _BLANK.encode() + data[end:]).hexdigest()
    return data[:begin] + seal.encode() + data[end:]


def check_seal(data: bytes, path: Path) -> None:
    """Raise a :class:`BundleError` unless the bytes of a manifest have exactly one seal, and it fits them."""
    count = len(_FIELD.findall(data))
    if count != 1:
        raise BundleError(f"{path} has {count} seals and exactly 1 is needed; export the bundle again.")
    if resealed(data) != data:
        raise BundleError(f"{path} was changed after it was written: its seal does not fit; export the bundle again.")
