"""``uigc demo``, the first minute with uigc."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.conftest import Run


def test_the_demo_shows_both_images(uigc: Run, tmp_path: Path, tiny_path: Path) -> None:
    done = uigc("demo", "--bundle", tiny_path)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "sample.png") as both:
        assert both.size == (600 + 8 + 600, 400)
    assert b"bits per pixel" in done.stdout
    again = uigc("demo", "--bundle", tiny_path)
    assert again.returncode != 0
    assert b"--force" in again.stderr
