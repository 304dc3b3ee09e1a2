"""The networks behind LPIPS and DISTS with made-up weights and few channels: to run what needs them, not to judge."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

# Channels of each convolution by its index; stages 2 to 4 of VGG16 end with the channels that adversaries expect.
VGG16 = {0: 4, 2: 4, 5: 4, 7: 128, 10: 4, 12: 4, 14: 256, 17: 4, 19: 4, 21: 512, 24: 4, 26: 4, 28: 8}
VGG16_STAGES = (2, 7, 14, 21, 28)
ALEXNET = {0: (4, 11), 3: (6, 5), 6: (8, 3), 8: (8, 3), 10: (4, 3)}  # channels, side of the kernel


def made_up_networks(folder: Path) -> Path:
    """Write the file that ``--networks`` takes, in the layout that docs/EVALUATION.md describes."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for network, layers in (("vgg16", {k: (v, 3) for k, v in VGG16.items()}), ("alexnet", ALEXNET)):
        inputs = 3
        for index, (outputs, side) in layers.items():
            weight = torch.randn(outputs, inputs, side, side, generator=generator)
            tensors[f"{network}.features.{index}.weight"] = weight * (2 / (inputs * side * side)) ** 0.5
            tensors[f"{network}.features.{index}.bias"] = 0.1 * torch.rand(outputs, generator=generator)
            inputs = outputs
    stages = {"vgg": [VGG16[index] for index in VGG16_STAGES], "alex": [channels for channels, _ in ALEXNET.values()]}
    for net, widths in stages.items():
        for stage, channels in enumerate(widths):
            weight = torch.rand(1, channels, 1, 1, generator=generator) / channels
            tensors[f"lpips_{net}.lin{stage}.model.1.weight"] = weight
    for name in ("alpha", "beta"):
        tensors[f"dists.{name}"] = torch.rand(1, 3 + sum(stages["vgg"]), 1, 1, generator=generator)
    path = folder / "nets.safetensors"
    save_file(tensors, path)
    return path
