"""Conformance cases: inputs of the prior's stages with what their graphs must return, by the integer reference."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from uigc.runtime.arrays import Predictions, Tokens
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.manifest import CODER_TABLE
from uigc.runtime.exactness.reference import ReferencePrior, with_sums
from uigc.runtime.format.grid import pad_to_windows
from uigc.runtime.format.schedule import Schedule
from uigc.runtime.progress import Progress

BATCHES = (1, 2, 8)
SHAPES = ((1, 1), (2, 2), (1, 3), (3, 2))  # in windows; four shapes and three batches, so that all pairs come up
LOST_SHARE = 0.3  # of the tokens, in cases with lost tokens


@dataclass(frozen=True)
class Case:
    """Input tokens (batch, height, width) of ``stage``, and the correct predictions (batch, positions, columns), which
    are logits alone for bundles without sums."""

    stage: int
    tokens: Tokens
    predictions: Predictions


def random_grids(bundle: Bundle, windows: int, seed: int) -> Iterator[tuple[str, Tokens]]:
    """Yield random batches of grids, at least ``windows`` windows in all, each with its kind.

    The kinds alternate: "grid" holds codewords, to be masked as the schedule does, and "any" all values that a stage
    accepts.
    """
    rng, done, number = np.random.default_rng(seed), 0, 0
    while done < windows:
        batch, (tall, wide) = BATCHES[number % len(BATCHES)], SHAPES[number % len(SHAPES)]
        kind, limit = ("any", bundle.pad + 1) if number % 2 else ("grid", bundle.codebook)
        shape = batch, tall * bundle.window, wide * bundle.window
        yield kind, rng.integers(limit, size=shape, dtype=np.int32)
        done, number = done + batch * tall * wide, number + 1


def context(bundle: Bundle, grids: Tokens, stage: int, seed: int) -> Tokens:
    """Return the view of ``stage`` on token grids (batch, h, w), padded to whole windows.

    Tokens of its own and later stages are unknown, and in every second stage some lost tokens too.
    """
    schedule: Schedule = bundle.schedule
    batch, height, width = grids.shape
    known = (schedule.stage_of(height, width) < stage)[None].repeat(batch, 0)
    if stage % 2:
        known &= np.random.default_rng([seed, stage]).random(known.shape) >= LOST_SHARE
    return pad_to_windows(np.where(known, grids, np.int32(bundle.unknown)), bundle.window, bundle.pad)


def make_cases(
    bundle: Bundle, windows: int, images: list[Tokens], seed: int, threads: int, progress: Progress
) -> list[Case]:
    """Make cases for all stages: random grids of at least ``windows`` windows, and token grids (h, w) of images."""
    reference = ReferencePrior(bundle.weights.read, bundle.manifest["prior"]["config"], bundle.schedule)
    table = bundle.table(CODER_TABLE) if bundle.has_sums else None
    inputs: list[tuple[int, Tokens]] = []
    for kind, grids in [*random_grids(bundle, windows, seed), *(("grid", image[None]) for image in images)]:
        for stage in range(len(bundle.schedule)):
            inputs.append((stage, grids if kind == "any" else context(bundle, grids, stage, seed)))

    def solve(task: tuple[int, Tokens]) -> Case:
        stage, tokens = task
        logits = reference.logits(tokens, stage)
        return Case(stage, tokens, logits if table is None else with_sums(logits, table))

    cases = []
    with ThreadPoolExecutor(threads) as pool:
        for case in pool.map(solve, inputs):
            cases.append(case)
            progress("reference", len(cases), len(inputs))
    return cases
