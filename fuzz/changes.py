"""Ways to alter bytes, numbers and JSON."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

from uigc.fuzz.target import Change

NUMBERS = (0, 1, 2, 3, 15, 16, 17, 63, 64, 127, 128, 129, 255, 256, 4095, 4096, 16383, 16384, 65535, 2**21 - 1, 2**21)
VALUES: tuple[Any, ...] = (
    None, -1, 0, 1, 2, 3, 2**31, 2**63, 10**30, 1.5, 1e308, float("nan"), float("inf"), "", "x", ".", "..", "../x",
    "/dev/zero", "a\0b", "a\nb", "\ud800", "a" * 1000, "a" * 20000, [], [[]], [1], [0, 0], {}, {"a": 1}, True, False,
)  # fmt: skip
"""Values of JSON that its readers may stumble on."""


def changer(rng: random.Random) -> Change:
    """Return a function that alters bytes anywhere: bits, bytes, and parts removed, repeated or inserted."""
    return lambda data: changed(data, rng)


def changed(data: bytes, rng: random.Random) -> bytes:
    """Alter bytes at one to four places."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place, length = rng.randrange(len(found) + 1), 1 << rng.randrange(6)
        match rng.randrange(6) if place < len(found) else 3:
            case 0:
                found[place] ^= 1 << rng.randrange(8)
            case 1:
                found[place] = rng.choice((0, 1, 127, 128, 254, 255, rng.randrange(256)))
            case 2:
                del found[place : place + length]
            case 3:
                found[place:place] = rng.randbytes(length)
            case 4:
                found[place:place] = found[place : place + length]
            case _:
                source = rng.randrange(len(found))
                found[place : place + length] = found[source : source + length]
    return bytes(found)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield every place in JSON, as the keys and indices that lead to it."""
    if place:
        yield place
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield from places(each, (*place, key))


def altered(value: Any, rng: random.Random) -> Any:
    """Return a copy of JSON with one value removed, renamed, replaced, or copied to another place."""
    found = copy.deepcopy(value)
    everywhere = list(places(found))
    if not everywhere:
        return rng.choice(VALUES)
    *way, last = rng.choice(everywhere)
    around = found
    for key in way:
        around = around[key]
    match rng.randrange(8):
        case 0:
            del around[last]
        case 1 if isinstance(around, dict):
            around[rng.choice(("a\nb", "\ud800", "fp16", "a" * 20000, ""))] = around.pop(last)
        case 2:
            other: Any = found
            for key in rng.choice(everywhere):
                other = other[key]
            around[last] = copy.deepcopy(other)
        case 3 if isinstance(around[last], int | float):
            around[last] = around[last] * rng.choice((-1, 2, 1000)) + rng.choice((-1, 0, 1, 0.5))
        case _:
            around[last] = rng.choice(VALUES)
    return found
