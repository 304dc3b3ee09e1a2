"""A yardstick for woven patterns: what a decoder repeats in every token, to the eye a weave, to LPIPS next to nothing.

Such a pattern has a period that divides a token's 16 pixels, so its energy lies on a few exact lines of the spectrum,
where a photograph has no more than it has beside them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PERIODS = (2, 4, 8, 16)  # pixels
SMALLEST = 96  # pixels each way; below it the lines have too few neighbours
NEAREST, FARTHEST = 2, 8  # of the neighbours, in steps of the spectrum; those that are lines themselves do not count

Floats = NDArray[np.float64]


def woven(image: NDArray[np.uint8], reference: NDArray[np.uint8]) -> dict[int, float] | None:
    """Return how much more a decoded image stands out at each period than its original; 1.0 is clean.

    Both are uint8 (H, W, 3). The energy of the three channels at the frequency 1/period, along both axes, is divided by
    the mean energy at the neighbouring frequencies, and this quotient by that of the original. Shifts change the noise
    only. None for images of fewer than 96 pixels a side.
    """
    if min(image.shape[:2]) < SMALLEST:
        return None
    made, real = _prominence(image), _prominence(reference)
    return {period: made[period] / real[period] for period in PERIODS}


def _prominence(image: NDArray[np.uint8]) -> dict[int, float]:
    """Energy at each period over that of its neighbours, of both axes together; 1 for a flat image."""
    channels = image.astype(np.float64).transpose(2, 0, 1)
    spectra = [np.sum([_energy(one) for one in each], 0) for each in (channels, channels.transpose(0, 2, 1))]
    return {period: _over_neighbours(spectra, period) for period in PERIODS}


def _energy(lines: Floats) -> Floats:
    """Mean energy of the lines (n, length) at each frequency from 0 to 1/2.

    The length is cut to a multiple of the longest period, so that every period falls on one frequency exactly.
    """
    lines = lines[:, : lines.shape[1] // max(PERIODS) * max(PERIODS)]
    energy: Floats = (np.abs(np.fft.rfft(lines)) ** 2).mean(0) / lines.shape[1]
    return energy


def _over_neighbours(spectra: list[Floats], period: int) -> float:
    line = neighbours = 1e-9  # so that flat images, without any energy, count as clean
    for energy in spectra:
        length = 2 * (len(energy) - 1)
        place = length // period
        others = np.arange(max(1, place - FARTHEST), min(len(energy), place + FARTHEST + 1))
        # In small images the line of another period, or a harmonic of one, lies as near.
        free = (np.abs(others - place) >= NEAREST) & (others % (length // max(PERIODS)) != 0)
        line += energy[place]
        neighbours += energy[others[free]].mean()
    return float(line / neighbours)
