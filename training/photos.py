"""Photographs for training: read once into memory as uint8, cropped and augmented on the device."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from uigc.runtime.errors import InputError, UigcError
from uigc.runtime.io import image as image_file
from uigc.runtime.io.image_sources import is_held_out, sources

PURE_COLOURS = [*itertools.product((0.0, 1.0), repeat=3), (0.5, 0.5, 0.5)]
"""Black, white, the six saturated colours, and middle grey."""


def _decode(data: bytes) -> Tensor | None:
    """Decode an image as the runtime does, transparency on white; return None for one that it refuses."""
    try:
        pixels = image_file.read(data, image_file.Reading("white"))
    except UigcError:
        return None
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()


class Photos:
    """uint8 images (3, H, W) on ``device``, split into ``training`` and ``held_out``."""

    def __init__(self, source: Path, device: torch.device, smallest: int, limit: int | None = None) -> None:
        files = list(sources(source))
        if limit is not None:
            files = files[:: max(1, len(files) // limit)][:limit]
        with ThreadPoolExecutor() as pool:
            decoded = list(tqdm(pool.map(lambda file: _decode(file.read()), files), "photos", len(files)))
        named = [(file.name, image) for file, image in zip(files, decoded, strict=True) if image is not None]
        if len(named) < len(files):
            print(f"{len(files) - len(named)} of {len(files)} images cannot be read and are passed over")
        fitting = [(name, image.to(device)) for name, image in named if min(image.shape[1:]) >= smallest]
        if len(fitting) < len(named):
            small = len(named) - len(fitting)
            print(f"{small} of {len(files)} images have less than {smallest} pixels a side and are passed over")
        self.training = [image for name, image in fitting if not is_held_out(name)]
        self.held_out = [image for name, image in fitting if is_held_out(name)]
        if not self.held_out and self.training:
            print("no image is held out, so that one of the training images takes their place")
            self.held_out = self.training[:1]
        if not self.training:
            raise InputError(
                f"No image of at least {smallest} pixels was found in {source}; "
                "give a folder of images, a folder of tar files, or a tar file."
            )


def crops(images: list[Tensor], count: int, size: int, rng: random.Random) -> Tensor:
    """(count, 3, size, size) in [0, 1]: random crops, flipped or not, half of them scaled down by a random factor."""
    batch = []
    for _ in range(count):
        image = rng.choice(images)
        _, height, width = image.shape
        zoom = rng.uniform(1, min(height, width) / size) if rng.random() < 0.5 else 1
        span = min(round(size * zoom), height, width)
        top, left = rng.randint(0, height - span), rng.randint(0, width - span)
        crop = image[:, top : top + span, left : left + span].float()
        if span > size:
            crop = F.interpolate(crop[None], (size, size), mode="bilinear", antialias=True)[0]
        batch.append(crop.flip(2) if rng.random() < 0.5 else crop)
    return torch.stack(batch) / 255


def flat(count: int, size: int, rng: random.Random, device: torch.device) -> Tensor:
    """(count, 3, size, size) in [0, 1]: images of one colour, half of them of a pure one, a sixth of another grey.

    Skies and walls are nearly flat, and a decoder that has not seen what is flat weaves patterns into them. Many
    colours share a token; a field of it is most likely, in people's images, the pure colour among them.
    """
    colours: list[Sequence[float]] = []
    for _ in range(count):
        channels = [rng.random() for _ in range(3)]
        grey = channels[:1] * 3 if rng.random() < 1 / 3 else channels
        colours.append(rng.choice(PURE_COLOURS) if rng.random() < 1 / 2 else grey)
    return torch.tensor(colours, device=device).view(count, 3, 1, 1).expand(count, 3, size, size)


def centre(image: Tensor, size: int) -> Tensor:
    """The middle ``size`` square of a uint8 image as (1, 3, size, size) in [0, 1]."""
    top, left = ((side - size) // 2 for side in image.shape[1:])
    return image[None, :, top : top + size, left : left + size].float() / 255
