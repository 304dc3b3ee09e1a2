"""The codec on PyTorch: the same loop and coder, with the modules in the place of the graphs made from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uigc.export.modules.checkpoint import frozen_prior, load_tokenizer
from uigc.export.modules.interface import ImageToTokens, TokensToImage
from uigc.export.modules.prior import Stage
from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import Codec
from uigc.runtime.networks.pixel_networks import PixelNetworks
from uigc.runtime.providers import Graph
from uigc.runtime.token_codec import TokenCodec


class _ToPlanes(nn.Module):
    """Images uint8 (batch, H, W, 3) to float32 (batch, 3, H, W) in [0, 1], as the encoder's graph begins."""

    def forward(self, image: Tensor) -> Tensor:
        return image.permute(0, 3, 1, 2).float() / 255


class _ToBytes(nn.Module):
    """The inverse, as the decoder's graph ends."""

    def forward(self, planes: Tensor) -> Tensor:
        return torch.round(planes * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


class _Module(Graph):
    """A module as a graph: arrays in and out; it waits for its device, because the copy back does."""

    def __init__(self, module: nn.Module, device: str, compiled: bool) -> None:
        module = module.eval().to(device)
        self._run: Callable[..., Any] = torch.compile(module, dynamic=False) if compiled else module
        self._device = device

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            found: NDArray[Any] = self._run(torch.from_numpy(value).to(self._device)).cpu().numpy()
        return found


def torch_codec(bundle: Bundle, device: str = "cpu", compiled: bool = False) -> Codec:
    """A codec whose networks are the bundle's modules in float32, eager or ``compiled`` by ``torch.compile``."""
    prior, tokenizer = frozen_prior(bundle), load_tokenizer(bundle.path)
    pixel_modules: dict[str, nn.Module] = {
        "encoder": nn.Sequential(_ToPlanes(), ImageToTokens(tokenizer)),
        "decoder": nn.Sequential(TokensToImage(tokenizer), _ToBytes()),
    }

    @cache
    def load(name: str | int) -> Graph:
        module = Stage(prior, name) if isinstance(name, int) else pixel_modules[name]
        return _Module(module, device, compiled)

    codec = Codec(bundle)
    codec.token_codec = TokenCodec(bundle, replace(codec.token_codec.prior, load=load, has_sums=False), codec.limits)
    codec.pixel_networks = PixelNetworks(load, bundle.patch, bundle.codebook)
    return codec
