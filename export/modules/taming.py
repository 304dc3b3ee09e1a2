"""Read trained VQGANs in the layout of taming-transformers: ``.ckpt``, ``.pth`` or ``.safetensors``.

The names and shapes of the weights describe the whole network, so no configuration file is needed. Code in a file is
never run: only tensors and plain containers are read, and a placeholder takes the place of every other object.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from uigc.export.modules.vqgan import GROUPS, VQGAN, VQGANConfig
from uigc.runtime.errors import InputError
from uigc.runtime.format.bitstream import PATCH

LAYOUT = ("encoder.", "decoder.", "quantize.embedding.weight", "quant_conv.", "post_quant_conv.")
INSIDE = "first_stage_model."
"""Prefix of a VQGAN's weights in the checkpoint of a transformer that was trained on it."""
TRAINING_ONLY = ("loss.", "model_ema.", "colorize", "quantize.embedding.cluster_size", "quantize.embedding.embed_avg")
_LISTED = 8  # how many names of each kind an error lists
_OURS = {"encoder.quant_conv.": "quant_conv.", "decoder.post_quant_conv.": "post_quant_conv."}


def load_vqgan(path: Path) -> VQGAN:
    """Return the VQGAN of a checkpoint, in float32 and evaluation mode.

    Raises :class:`InputError` with everything that is wrong with the checkpoint.
    """
    state = _weights(_contents(path), path)
    config = infer_config({name: tuple(value.shape) for name, value in state.items()}, path)
    with torch.device("meta"):
        expected = VQGAN(config).state_dict()
    names = {_their_name(name): name for name in expected}
    faults = [
        *_listed("lacks", names.keys() - state.keys()),
        *_listed("also holds", state.keys() - names.keys()),
        *_listed("has in another shape", _misshapen(state, {their: expected[our] for their, our in names.items()})),
        *_listed("holds numbers that are not finite in", (name for name, value in state.items() if not _finite(value))),
    ]
    if faults:
        raise InputError(
            f"{path} is not the VQGAN that its first shapes describe ({describe(config)}): it "
            f"{'; it '.join(faults)}; give a checkpoint in the layout of taming-transformers."
        )
    vqgan = VQGAN(config)
    vqgan.load_state_dict({our: state[their].float() for their, our in names.items()})
    return vqgan.eval()


def _their_name(name: str) -> str:
    if name == "quantizer.words":
        return "quantize.embedding.weight"
    return next((theirs + name.removeprefix(ours) for ours, theirs in _OURS.items() if name.startswith(ours)), name)


class _Placeholder:
    """Stands for every other object in a checkpoint: training's callbacks, options, counters."""

    def __new__(cls, *unused: object, **unused_too: object) -> _Placeholder:
        return super().__new__(cls)

    def __init__(self, *unused: object, **unused_too: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _contents(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"There is no file {path}; give the checkpoint of a VQGAN (.ckpt, .pth or .safetensors).")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with open(path, "rb") as file:
            zipped = file.read(2) == b"PK"
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipped else []
        with torch.serialization.safe_globals([(_Placeholder, name) for name in unsafe]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file ({error}); fetch it again.") from None
    except Exception as error:  # torch raises a dozen unrelated types
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"{path} cannot be read as a checkpoint without running code from it ({reason[0]}); fetch it again, or "
            "save its state_dict as .safetensors."
        ) from None


def _weights(contents: Any, path: Path) -> dict[str, Tensor]:
    """Return the weights of the network, under their names in the layout."""
    # Frameworks nest the weights under one of these keys.
    for key in ("state_dict", "model"):
        if isinstance(contents, Mapping) and isinstance(contents.get(key), Mapping):
            contents = contents[key]
            break
    if not isinstance(contents, Mapping):
        raise InputError(
            f"{path} does not hold named weights but a whole {type(contents).__name__.strip('_')}; save the model's "
            "state_dict() and give that."
        )
    named = {str(name): value for name, value in contents.items()}
    inside = {name.removeprefix(INSIDE): value for name, value in named.items() if name.startswith(INSIDE)}
    kept = {name: value for name, value in (inside or named).items() if not name.startswith(TRAINING_ONLY)}
    if "quantize.embed.weight" in kept:
        raise InputError(
            f"{path} is a VQGAN with a Gumbel quantizer, whose codewords are chosen by a network and not by distance; "
            "give one with quantize.embedding.weight."
        )
    if not any(name.startswith(LAYOUT) for name in kept):
        held = ", ".join(sorted(named)[:3]) or "nothing"
        raise InputError(
            f"{path} does not hold a VQGAN in the layout of taming-transformers ({'*, '.join(LAYOUT)}*) but {held} "
            "...; give one that does."
        )
    others = [name for name, value in kept.items() if not isinstance(value, Tensor)]
    for fault in _listed("does not hold a tensor as", others):
        raise InputError(f"{path} {fault}; give a checkpoint in the layout of taming-transformers.")
    return kept


def infer_config(shapes: Mapping[str, tuple[int, ...]], path: Path) -> VQGANConfig:
    """Return the configuration that the names and shapes of the first layers describe.

    The other layers may contradict it, which :func:`load_vqgan` finds when it compares all shapes.
    """
    levels = _count(shapes, r"encoder\.down\.(\d+)\.")
    first = [f"encoder.down.{level}.block.0.conv1.weight" for level in range(levels)]
    needed = ["encoder.conv_in.weight", "encoder.conv_out.weight", "quantize.embedding.weight", *first]
    faults = _listed("lacks", (name for name in needed if not shapes.get(name)))
    if faults or not levels:
        raise InputError(f"{path} {' '.join(faults) or 'has no levels'}; give a checkpoint that is complete.")
    width, latent = shapes[needed[0]][0], shapes[needed[1]][0]
    if 2 ** (levels - 1) != PATCH:
        raise InputError(
            f"{path} has {levels} levels, so its tokens cover {2 ** (levels - 1)} pixels a side, and {PATCH} are "
            f"needed; give a VQGAN of the kind f{PATCH}."
        )
    multipliers = tuple(shapes[name][0] // max(1, width) for name in first)
    if not width or width % GROUPS or 0 in multipliers:
        raise InputError(
            f"{path} has {width} channels at full resolution, and norms of {GROUPS} groups need a multiple of that; "
            "give a checkpoint in the layout of taming-transformers."
        )
    codebook = shapes["quantize.embedding.weight"]
    return VQGANConfig(
        codebook=codebook[0],
        dim=codebook[-1],
        width=width,
        multipliers=multipliers,
        blocks=_count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
        encoder_attention=_attentive(shapes, "encoder.down", levels),
        decoder_attention=_attentive(shapes, "decoder.up", levels),
        latent=latent,
    )


def _attentive(names: Mapping[str, object], side: str, levels: int) -> tuple[int, ...]:
    """Return the levels of ``side`` that have attention."""
    return tuple(level for level in range(levels) if f"{side}.{level}.attn.0.q.weight" in names)


def _count(names: Iterable[str], pattern: str) -> int:
    """Return how many different texts the group of ``pattern`` matches among the names."""
    return len({found[1] for name in names if (found := re.match(pattern, name))})


def describe(config: VQGANConfig) -> str:
    """Return a configuration in words, for messages."""
    attention = ", ".join(map(str, config.encoder_attention)) or "none"
    return (
        f"{config.width} channels times {', '.join(map(str, config.multipliers))}, {config.blocks} blocks per level, "
        f"attention at level {attention}, {config.codebook} codewords of dimension {config.dim}"
    )


def _misshapen(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name} {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in sorted(found.keys() & wanted.keys())
        if found[name].shape != wanted[name].shape
    ]


def _finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def _listed(fault: str, names: Iterable[str]) -> list[str]:
    """Return ``fault`` followed by the names, at most :data:`_LISTED` of them; empty if there are none."""
    ordered = sorted(names)
    if not ordered:
        return []
    more = [f"and {len(ordered) - _LISTED} more"] if len(ordered) > _LISTED else []
    return [f"{fault} {', '.join([*ordered[:_LISTED], *more])}"]
