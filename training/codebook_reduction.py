"""A smaller codebook for a tokenizer that has one: k-means over its codewords, each counting as often as it is used.

So the published UIGC codec (ICME 2024) reduces the thousands of codewords of a VQGAN to 16-256, which is what makes its
rates possible.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uigc.runtime.errors import InputError

Floats = NDArray[np.float64]
ROUNDS = 100


def use(grids: Iterable[Tensor], codebook: int) -> NDArray[np.int64]:
    """Return how often each codeword occurs in token grids: (codebook,)."""
    counts = torch.zeros(codebook, dtype=torch.int64)
    for grid in grids:
        counts += torch.bincount(grid.flatten().cpu(), minlength=codebook)
    return counts.numpy()


def reduced(codewords: Tensor, counts: NDArray[np.int64], count: int) -> tuple[Tensor, float]:
    """Return ``count`` codewords for the used ones of ``codewords`` (n, dim), and the share of their variance kept.

    The same input gives the same codewords. Raises :class:`InputError` if fewer than ``count`` were used.
    """
    used = np.flatnonzero(counts)
    if len(used) < count:
        raise InputError(
            f"Only {len(used)} of {len(codewords)} codewords occur in the photographs and {count} were asked for; "
            "give more photographs, or ask for fewer codewords."
        )
    points, weights = codewords.detach().cpu().double().numpy()[used], counts[used].astype(np.float64)
    centres = _clusters(points, weights, count)
    middle = np.average(points, axis=0, weights=weights)
    lost, all_of_it = (weights @ _squares(points, to).min(axis=1) for to in (centres, middle[None]))
    return torch.from_numpy(centres).to(codewords.dtype), float(1 - lost / all_of_it) if all_of_it else 1.0


def _clusters(points: Floats, weights: Floats, count: int) -> Floats:
    """Weighted k-means from k-means++ (Arthur and Vassilvitskii, 2007): points (n, dim) -> centres (count, dim)."""
    centres = _first_centres(points, weights, count)
    nearest = np.full(len(points), -1)
    for _ in range(ROUNDS):
        squares = _squares(points, centres)
        before, nearest = nearest, squares.argmin(axis=1)
        if np.array_equal(before, nearest):
            break
        mass = np.bincount(nearest, weights, count)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, points * weights[:, None])
        empty = mass == 0
        centres = sums / np.where(empty, 1, mass)[:, None]
        if empty.any():  # move them to the points that cost most
            costs = weights * squares.min(axis=1)
            centres[empty] = points[np.argsort(-costs, kind="stable")[: int(empty.sum())]]
    return centres


def _first_centres(points: Floats, weights: Floats, count: int) -> Floats:
    """Choose the first centres as k-means++ does: with a probability proportional to the use of a point times its
    squared distance to the nearest centre chosen before."""
    rng = np.random.default_rng(0)
    squares, chosen = np.ones(len(points)), []
    for _ in range(count):
        costs = weights * squares
        if not costs.any():  # only copies of the chosen are left
            costs = weights
        chosen.append(int(rng.choice(len(points), p=costs / costs.sum())))
        distances = _squares(points, points[chosen[-1:]])[:, 0]
        squares = distances if len(chosen) == 1 else np.minimum(squares, distances)
    return points[chosen]


def _squares(points: Floats, centres: Floats) -> Floats:
    """Squared distances (n, count), at least 0."""
    lengths = (points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)
    return np.maximum(lengths - 2 * points @ centres.T, 0)
