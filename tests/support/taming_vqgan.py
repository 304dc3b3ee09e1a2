"""A VQGAN as everybody else computes it: checkpoints of made-up weights in the layout of taming-transformers, and the
forward pass restated on their names, in plain functions of PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
WIDTH, MULTIPLIERS = 32, (1, 1, 1, 1, 2)
LAST = len(MULTIPLIERS) - 1


def _conv(state: State, name: str, inputs: int, outputs: int, side: int) -> None:
    state[f"{name}.weight"] = torch.randn(outputs, inputs, side, side) * (inputs * side * side) ** -0.5
    state[f"{name}.bias"] = 0.1 * torch.randn(outputs)


def _norm(state: State, name: str, channels: int) -> None:
    state[f"{name}.weight"] = 1 + 0.1 * torch.randn(channels)
    state[f"{name}.bias"] = 0.1 * torch.randn(channels)


def _residual(state: State, name: str, inputs: int, outputs: int) -> None:
    _norm(state, f"{name}.norm1", inputs)
    _conv(state, f"{name}.conv1", inputs, outputs, 3)
    _norm(state, f"{name}.norm2", outputs)
    _conv(state, f"{name}.conv2", outputs, outputs, 3)
    if inputs != outputs:
        _conv(state, f"{name}.nin_shortcut", inputs, outputs, 1)


def _attention(state: State, name: str, channels: int) -> None:
    _norm(state, f"{name}.norm", channels)
    for part in ("q", "k", "v", "proj_out"):
        _conv(state, f"{name}.{part}", channels, channels, 1)


def _middle(state: State, name: str, channels: int) -> None:
    _residual(state, f"{name}.block_1", channels, channels)
    _attention(state, f"{name}.attn_1", channels)
    _residual(state, f"{name}.block_2", channels, channels)


def weights(
    words: int,
    dim: int,
    width: int = WIDTH,
    multipliers: Sequence[int] = MULTIPLIERS,
    blocks: int = 1,
    latent: int = 12,
) -> State:
    """Random weights of an f16 VQGAN with attention at its coarsest level; the words are zero."""
    state: State = {}
    channels, last = [width * multiplier for multiplier in multipliers], len(multipliers) - 1
    _conv(state, "encoder.conv_in", 3, width, 3)
    inputs = width
    for level, outputs in enumerate(channels):
        for block in range(blocks):
            _residual(state, f"encoder.down.{level}.block.{block}", inputs, outputs)
            inputs = outputs
            if level == last:
                _attention(state, f"encoder.down.{level}.attn.{block}", outputs)
        if level < last:
            _conv(state, f"encoder.down.{level}.downsample.conv", outputs, outputs, 3)
    _middle(state, "encoder.mid", inputs)
    _norm(state, "encoder.norm_out", inputs)
    _conv(state, "encoder.conv_out", inputs, latent, 3)
    _conv(state, "quant_conv", latent, dim, 1)
    state["quantize.embedding.weight"] = torch.zeros(words, dim)
    _conv(state, "post_quant_conv", dim, latent, 1)
    _conv(state, "decoder.conv_in", latent, inputs, 3)
    _middle(state, "decoder.mid", inputs)
    for level in reversed(range(last + 1)):
        for block in range(blocks + 1):
            _residual(state, f"decoder.up.{level}.block.{block}", inputs, channels[level])
            inputs = channels[level]
            if level == last:
                _attention(state, f"decoder.up.{level}.attn.{block}", inputs)
        if level > 0:
            _conv(state, f"decoder.up.{level}.upsample.conv", inputs, inputs, 3)
    _norm(state, "decoder.norm_out", inputs)
    _conv(state, "decoder.conv_out", inputs, 3, 3)
    return state


def checkpoint(words: int, images: Tensor, dim: int = 8) -> State:
    """A small VQGAN whose words are latents of ``images`` (B, 3, H, W), so that they are used."""
    torch.manual_seed(0)
    state = weights(words, dim)
    latents = encode(state, images).permute(0, 2, 3, 1).reshape(-1, dim)
    state["quantize.embedding.weight"] = latents[torch.randperm(len(latents))[:words]].clone()
    return state


def _at(state: State, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride, padding)


def _normed(state: State, name: str, x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    groups = x.reshape(batch, 32, -1)
    groups = groups - groups.mean(2, keepdim=True)
    groups = groups / (groups.square().mean(2, keepdim=True) + 1e-6).sqrt()
    scale, shift = (state[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
    return groups.reshape(batch, channels, height, width) * scale + shift


def _swish(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def _restated_residual(state: State, name: str, x: Tensor) -> Tensor:
    made = _at(state, f"{name}.conv1", _swish(_normed(state, f"{name}.norm1", x)), padding=1)
    made = _at(state, f"{name}.conv2", _swish(_normed(state, f"{name}.norm2", made)), padding=1)
    return made + (_at(state, f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in state else x)


def _restated_attention(state: State, name: str, x: Tensor) -> Tensor:
    query, key, value = (_at(state, f"{name}.{part}", _normed(state, f"{name}.norm", x)) for part in "qkv")
    scores = torch.einsum("bchw,bcij->bhwij", query, key) / x.shape[1] ** 0.5
    weights = scores.flatten(3).softmax(3).view_as(scores)
    return x + _at(state, f"{name}.proj_out", torch.einsum("bhwij,bcij->bchw", weights, value))


def _restated_middle(state: State, name: str, x: Tensor) -> Tensor:
    x = _restated_attention(state, f"{name}.attn_1", _restated_residual(state, f"{name}.block_1", x))
    return _restated_residual(state, f"{name}.block_2", x)


def _restated_level(state: State, name: str, x: Tensor) -> Tensor:
    for block in range(10):
        if f"{name}.block.{block}.conv1.weight" in state:
            x = _restated_residual(state, f"{name}.block.{block}", x)
            if f"{name}.attn.{block}.q.weight" in state:
                x = _restated_attention(state, f"{name}.attn.{block}", x)
    return x


def encode(state: State, image: Tensor) -> Tensor:
    """image (B, 3, H, W) in [0, 1] -> latents (B, dim, H/16, W/16), before the words."""
    x = _at(state, "encoder.conv_in", 2 * image - 1, padding=1)
    for level in range(LAST + 1):
        x = _restated_level(state, f"encoder.down.{level}", x)
        if level < LAST:
            bordered = torch.zeros(*x.shape[:2], x.shape[2] + 1, x.shape[3] + 1)
            bordered[:, :, :-1, :-1] = x
            x = _at(state, f"encoder.down.{level}.downsample.conv", bordered, stride=2)
    x = _swish(_normed(state, "encoder.norm_out", _restated_middle(state, "encoder.mid", x)))
    return _at(state, "quant_conv", _at(state, "encoder.conv_out", x, padding=1))


def distances(state: State, latents: Tensor) -> Tensor:
    """latents (B, dim, h, w) -> distances to every word (B, h, w, words)."""
    return torch.cdist(latents.permute(0, 2, 3, 1).flatten(1, 2), state["quantize.embedding.weight"][None]).view(
        latents.shape[0], *latents.shape[2:], -1
    )


def decode(state: State, tokens: Tensor) -> Tensor:
    """tokens (B, h, w) -> image (B, 3, 16h, 16w), in about [0, 1]."""
    words = state["quantize.embedding.weight"][tokens.long()].permute(0, 3, 1, 2)
    x = _at(state, "decoder.conv_in", _at(state, "post_quant_conv", words), padding=1)
    x = _restated_middle(state, "decoder.mid", x)
    for level in reversed(range(LAST + 1)):
        x = _restated_level(state, f"decoder.up.{level}", x)
        if level > 0:
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            x = _at(state, f"decoder.up.{level}.upsample.conv", x, padding=1)
    x = _at(state, "decoder.conv_out", _swish(_normed(state, "decoder.norm_out", x)), padding=1)
    return (x + 1) / 2
