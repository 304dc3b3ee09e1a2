"""Files of compiled models: the youngest that fit, and each as it was kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from uigc.runtime.providers import compiled_models


def test_the_least_recently_used_go_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_models, "LIMIT", 1000)
    for age, name in enumerate((b"a", b"b", b"c")):
        compiled_models.write(name * 32, bytes(250))
        os.utime(cache / f"{(name * 32).hex()[:32]}.model", (age + 1, age + 1))
    assert compiled_models.read(b"a" * 32) == bytes(250)  # which makes it the youngest
    compiled_models.write(b"d" * 32, bytes(250))
    assert compiled_models.read(b"b" * 32) is None
    assert all(compiled_models.read(name * 32) == bytes(250) for name in (b"a", b"c", b"d"))


def test_a_damaged_one_and_that_of_another_key_are_not_read(cache: Path) -> None:
    one, other = b"a" * 32, b"a" * 31 + b"b"
    assert compiled_models.read(one) is None
    compiled_models.write(one, b"model")
    (kept,) = cache.iterdir()
    assert compiled_models.read(one) == b"model"
    assert compiled_models.read(other) is None  # which has the same file name
    for data in (b"", kept.read_bytes()[:-1], kept.read_bytes() + b"x"):
        kept.write_bytes(data)
        assert compiled_models.read(one) is None
        compiled_models.write(one, b"model")
