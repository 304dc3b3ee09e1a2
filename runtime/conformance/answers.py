"""What a decoder may answer about an input of the kit: one line of text, made and read here."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from uigc.runtime import errors
from uigc.runtime.errors import UigcError
from uigc.runtime.outcomes import capture
from uigc.runtime.token_codec import TokenCodec

UNSUPPORTED = "unsupported"  # what a decoder answers to requests that it does not serve

_REFUSALS = {
    int(kind.exit_code): kind.__name__
    for kind in (
        errors.UnrecognizedFileError,
        errors.UnsupportedVersionError,
        errors.PriorMismatchError,
        errors.CorruptFileError,
        errors.TooLargeError,
        errors.ProviderError,
        errors.InexactError,
    )
}
"""What a decoder may refuse a file with; another exit code, as of an option that it does not know, is no refusal."""


def raw(array: NDArray[np.integer]) -> bytes:
    """Return the bytes that the kit keeps and hashes of an array: int32, least significant byte first, in C order."""
    return np.ascontiguousarray(array, dtype="<i4").tobytes()


def grid_answer(grid: NDArray[np.integer]) -> str:
    """Return the answer of a decoder that ends with this token grid (rows, columns)."""
    return f"grid {hashlib.sha256(raw(grid)).hexdigest()}"


def logits_answer(logits: NDArray[np.integer]) -> str:
    """Return the answer of a stage with these logits (batch, positions, codebook)."""
    return f"logits {hashlib.sha256(raw(logits)).hexdigest()}"


def refusal(error: UigcError) -> str:
    """Return the answer of a decoder that refuses a file with this error."""
    return f"refused {type(error).__name__}"


def answer(codec: TokenCodec, data: bytes) -> str:
    """Return what a token codec makes of a file."""
    found = capture(lambda: _decode(codec, data))
    return refusal(found) if isinstance(found, UigcError) else grid_answer(found)


def _decode(codec: TokenCodec, data: bytes) -> NDArray[np.int32]:
    (found,) = codec.decode([codec.parse(data)], lambda *_: None)
    if isinstance(found, UigcError):
        raise found
    return found


def read(code: int, text: str) -> str:
    """Return the answer of a program that ended with exit code ``code`` and printed ``text``.

    It may print an answer as its last line, or the grid itself, a line of decimal numbers for each row; or end with
    one of the exit codes of ``uigc``. Anything else is described in words, and equals no answer that is expected.
    """
    lines = text.strip().splitlines()
    if code == 0 and lines:
        if lines[-1].split(" ")[0] in ("grid", "logits", "refused", UNSUPPORTED):
            return lines[-1].strip()
        return _of_numbers(lines)
    if code in _REFUSALS:
        return f"refused {_REFUSALS[code]}"
    if code < 0:
        return f"ended by signal {-code}"
    return f"ended with exit code {code}" if code else "printed nothing"


def _of_numbers(lines: list[str]) -> str:
    """Return the answer of a program that printed its grid."""
    try:
        rows = [[int(number) for number in line.split()] for line in lines]
        return grid_answer(np.array(rows, dtype=np.int32))
    except (OverflowError, ValueError):
        return f"printed {lines[-1][:80]!r}"
