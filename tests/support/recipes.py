"""Recipes of training, run in seconds on images made by code."""

from __future__ import annotations

import io
import tarfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from uigc.training.__main__ import main


def smooth_images(folder: Path) -> Path:
    """Write a tar of smooth images into the folder and return the folder; they are for tests of the machinery."""
    rng = np.random.default_rng(0)
    with tarfile.open(folder / "photos.tar", "w") as archive:
        for index in range(60):
            small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
            path = folder / f"{index:03}.png"
            small.resize((288, 272), Image.Resampling.BICUBIC).save(path)
            archive.add(path, path.name)
            path.unlink()
    return folder


def train(recipe: str, photos: Path, out: Path, steps: int, *more: str) -> str:
    """What a recipe prints. On one thread: with several, sums may be taken in another order, and then no two runs are
    alike to the last bit."""
    tiny = [] if recipe in ("decoder", "flat", "encoder") or "--start" in more else ["--tiny"]
    printed, threads = io.StringIO(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            main([recipe, "--images", str(photos), "--output", str(out), *tiny, "--steps", str(steps), *more])
    finally:
        torch.set_num_threads(threads)
    return printed.getvalue()
