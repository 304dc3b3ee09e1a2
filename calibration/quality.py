"""The cost of changing a pixel network: PSNR and LPIPS over the whole way from image to image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from uigc.bench.metrics import LPIPS, psnr

Array = NDArray[Any]


@dataclass(frozen=True)
class Quality:
    """Means over images: ``psnr`` in dB and ``lpips`` against the originals; ``likeness``, PSNR in dB against what
    the float32 networks give."""

    psnr: float
    lpips: float | None
    likeness: float | None = None

    def lost(self, exact: Quality) -> tuple[float, float | None]:
        """The PSNR lost (dB) and LPIPS gained relative to ``exact``; either can be slightly negative through noise."""
        known = self.lpips is not None and exact.lpips is not None
        return exact.psnr - self.psnr, self.lpips - exact.lpips if known else None  # type: ignore[operator]


@dataclass(frozen=True)
class Budget:
    """The quality that a network may lose to int8: dB of PSNR and LPIPS, both above 0.

    ``lpips`` None if it is not measured.
    """

    psnr: float = 0.3
    lpips: float | None = 0.005

    def share(self, exact: Quality, changed: Quality) -> float:
        """Return the share of the budget that a change takes; above 1 it is overdrawn."""
        psnr, lpips = changed.lost(exact)
        shares = [psnr / self.psnr]
        if self.lpips is not None:
            assert lpips is not None
            shares.append(lpips / self.lpips)
        return max(shares)


def _planes(image: Array) -> torch.Tensor:
    """Convert uint8 (1, H, W, 3) to float32 (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(image.copy()).permute(0, 3, 1, 2).float() / 255


class Judge:
    """Compares images uint8 (1, H, W, 3) with originals."""

    BEST = 100.0  # dB; of equal images, whose true figure JSON cannot hold

    def __init__(self, originals: list[Array], lpips: LPIPS | None) -> None:
        self._originals = [_planes(original) for original in originals]
        self._lpips = lpips
        with torch.no_grad():
            self._features = [lpips.features(original) for original in self._originals] if lpips else []
        self._exact: list[torch.Tensor] | None = None

    def fix(self, exact: list[Array]) -> Quality:
        """Judge the images of the float32 networks, with which later ones are compared too."""
        self._exact = None
        quality = self.judge(exact)
        self._exact = [_planes(image) for image in exact]
        return quality

    @torch.no_grad()
    def judge(self, images: list[Array]) -> Quality:
        """Return the means over the images, one for each original."""
        tensors = [_planes(image) for image in images]
        return Quality(
            self._psnr(tensors, self._originals),
            self._distance(tensors),
            self._psnr(tensors, self._exact) if self._exact else None,
        )

    def _psnr(self, images: list[torch.Tensor], references: list[torch.Tensor]) -> float:
        pairs = zip(images, references, strict=True)
        return float(np.mean([min(float(psnr(*pair)), self.BEST) for pair in pairs]))

    def _distance(self, images: list[torch.Tensor]) -> float | None:
        lpips = self._lpips
        if lpips is None:
            return None
        pairs = zip(images, self._features, strict=True)
        return float(np.mean([float(lpips.distance(lpips.features(image), known)) for image, known in pairs]))
