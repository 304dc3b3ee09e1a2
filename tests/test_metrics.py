"""LPIPS and DISTS against the values that their authors publish for their example images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.paths import outside
from uigc.bench.metrics import DISTS, LPIPS, Networks, order0, psnr


@pytest.fixture(scope="module")
def folder() -> Path:
    return outside("perceptual")


@pytest.fixture(scope="module")
def networks(folder: Path) -> Networks:
    return Networks(folder / "nets.safetensors")


def load(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize(("name", "published"), [("lpips_ex_p0", 0.722), ("lpips_ex_p1", 0.138)])
def test_lpips(folder: Path, networks: Networks, name: str, published: float) -> None:
    distance = LPIPS(networks)(load(folder / f"{name}.png"), load(folder / "lpips_ex_ref.png"))
    assert round(float(distance), 3) == published


def test_dists(folder: Path, networks: Networks) -> None:
    distance = DISTS(networks)(load(folder / "dists_r0.png"), load(folder / "dists_r1.png"))
    assert round(float(distance), 4) == 0.3347


@pytest.mark.parametrize("metric", [lambda n: LPIPS(n), lambda n: LPIPS(n, "vgg"), lambda n: DISTS(n)])
def test_equal_images_have_no_distance_and_noise_has_one(networks: Networks, metric: object) -> None:
    distance = metric(networks)  # type: ignore[operator]
    image = torch.rand(2, 3, 64, 64)
    assert torch.allclose(distance(image, image), torch.zeros(2), atol=1e-5)
    assert bool((distance(image, image.roll(7, 3)) > 0.01).all())


def test_unknown_network(networks: Networks) -> None:
    with pytest.raises(ValueError, match="'alex' and 'vgg'"):
        LPIPS(networks, "squeeze")


def test_order0() -> None:
    assert order0(np.array([[5, 5, 7, 9]])) == 1.5
    assert order0(np.zeros(10, np.int32)) == 0


def test_psnr() -> None:
    assert psnr(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.1)).item() == pytest.approx(20)
