"""A strict reader of JSON, for what strangers may have written; the decoder in C++ reads and refuses the same.

Python's own reader takes what RFC 8259 does not allow (``NaN``), and what two programs may read differently (the same
key twice in an object, numbers of endless length).
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

MAX_DEPTH = 64  # arrays and objects inside each other
MAX_VALUES = 1 << 18  # in one text
MAX_NUMBER = 40  # characters of one number


def loads(data: bytes) -> Any:
    """Read JSON in UTF-8; raises a :class:`ValueError` that says what is wrong with it."""
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=lambda text: int(_short(text)),
            parse_float=lambda text: float(_short(text)),
        )
    except RecursionError:
        raise _too_deep() from None
    _check_nesting(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _short(text: str) -> str:
    if len(text) > MAX_NUMBER:
        raise ValueError(f"a number has more than {MAX_NUMBER} characters")
    return text


def _too_deep() -> ValueError:
    return ValueError(f"more than {MAX_DEPTH} arrays and objects lie inside each other")


def _check_nesting(value: Any) -> None:
    """Refuse a value with too many values in it, or nested too deeply; without recursion."""
    level, count, depth = [value], 0, 0
    while level:
        count, depth = count + len(level), depth + 1
        if count > MAX_VALUES:
            raise ValueError(f"it has more than {MAX_VALUES} values")
        if depth > MAX_DEPTH:
            raise _too_deep()
        level = [
            each
            for outer in level
            if isinstance(outer, dict | list)
            for each in (outer.values() if isinstance(outer, dict) else outer)
        ]
