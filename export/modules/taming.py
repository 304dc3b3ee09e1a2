"""Reading trained VQGANs in the layout of taming-transformers: ``.ckpt``, ``.pth`` or ``.safetensors``.

Everything about the network is told by the names and shapes of the weights, so no configuration file is needed. Nothing
that a file holds besides tensors is ever run: what is not tensors and plain containers is put aside unread.
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
"""Of a VQGAN inside the checkpoint of a transformer that was trained on it."""
TRAINING_ONLY = ("loss.", "model_ema.", "colorize", "quantize.embedding.cluster_size", "quantize.embedding.embed_avg")
_LISTED = 8  # names of each kind that an error spells out
_OURS = {"encoder.quant_conv.": "quant_conv.", "decoder.post_quant_conv.": "post_quant_conv."}


def load_vqgan(path: Path) -> VQGAN:
    """The VQGAN of a checkpoint, in float32 and evaluation mode; raises :class:`InputError` with everything that is
    wrong with it."""
    state = _weights(_contents(path), path)
    config = configuration({name: tuple(value.shape) for name, value in state.items()}, path)
    with torch.device("meta"):
        expected = VQGAN(config).state_dict()
    names = {_their_name(name): name for name in expected}
    faults = [
        *_listed("lacks", names.keys() - state.keys()),
        *_listed("also holds", state.keys() - names.keys()),
        *_listed("has in another shape", _misshapen(state, {their: expected[our] for their, our in names.items()})),
        *_listed("holds what is no finite number in", (name for name, value in state.items() if not _finite(value))),
    ]
    if faults:
        raise InputError(
            f"{path} is not the VQGAN that its shapes begin to describe ({described(config)}): it "
            f"{'; it '.join(faults)}; give a checkpoint in the layout of taming-transformers."
        )
    vqgan = VQGAN(config)
    vqgan.load_state_dict({our: state[their].float() for their, our in names.items()})
    return vqgan.eval()


def _their_name(name: str) -> str:
    if name == "quantizer.words":
        return "quantize.embedding.weight"
    return next((theirs + name.removeprefix(ours) for ours, theirs in _OURS.items() if name.startswith(ours)), name)


class _Aside:
    """Stands for whatever a checkpoint holds besides tensors: training's callbacks, options, counters."""

    def __new__(cls, *unused: object, **unused_too: object) -> _Aside:
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
        aside = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipped else []
        with torch.serialization.safe_globals([(_Aside, name) for name in aside]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise InputError(f"{path} is no safetensors file ({error}); fetch it again.") from None
    except Exception as error:  # torch raises a dozen unrelated types
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"{path} cannot be read as a checkpoint without running code from it ({reason[0]}); fetch it again, or "
            "save its state_dict as .safetensors."
        ) from None


def _weights(contents: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of the network itself, under their names in the layout."""
    for nest in ("state_dict", "model"):
        if isinstance(contents, Mapping) and isinstance(contents.get(nest), Mapping):
            contents = contents[nest]
            break
    if not isinstance(contents, Mapping):
        raise InputError(
            f"{path} holds no named weights but a whole {type(contents).__name__.strip('_')}; save the model's "
            "state_dict() and give that."
        )
    named = {str(name): value for name, value in contents.items()}
    inside = {name.removeprefix(INSIDE): value for name, value in named.items() if name.startswith(INSIDE)}
    kept = {name: value for name, value in (inside or named).items() if not name.startswith(TRAINING_ONLY)}
    if "quantize.embed.weight" in kept:
        raise InputError(
            f"{path} is a VQGAN with a Gumbel quantizer, whose words are chosen by a network and not by distance; give "
            "one with quantize.embedding.weight."
        )
    if not any(name.startswith(LAYOUT) for name in kept):
        held = ", ".join(sorted(named)[:3]) or "nothing"
        raise InputError(
            f"{path} holds no VQGAN in the layout of taming-transformers ({'*, '.join(LAYOUT)}*) but {held} ...; give "
            "one that does."
        )
    faults = list(_listed("holds no tensor as", (n for n, value in kept.items() if not isinstance(value, Tensor))))
    if faults:
        raise InputError(f"{path} {faults[0]}; give a checkpoint in the layout of taming-transformers.")
    return kept


def configuration(shapes: Mapping[str, tuple[int, ...]], path: Path) -> VQGANConfig:
    """What names and shapes tell; what they get wrong comes out when the rest is compared."""
    levels = _count(shapes, r"encoder\.down\.(\d+)\.")
    first = [f"encoder.down.{level}.block.0.conv1.weight" for level in range(levels)]
    needed = ["encoder.conv_in.weight", "encoder.conv_out.weight", "quantize.embedding.weight", *first]
    faults = list(_listed("lacks", (name for name in needed if not shapes.get(name))))
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

    def attentive(side: str) -> tuple[int, ...]:
        return tuple(level for level in range(levels) if f"{side}.{level}.attn.0.q.weight" in shapes)

    codebook = shapes["quantize.embedding.weight"]
    return VQGANConfig(
        codebook=codebook[0],
        dim=codebook[-1],
        width=width,
        multipliers=multipliers,
        blocks=_count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
        encoder_attention=attentive("encoder.down"),
        decoder_attention=attentive("decoder.up"),
        latent=latent,
    )


def _count(names: Iterable[str], pattern: str) -> int:
    """How many numbers the ``pattern``'s group takes among the names."""
    return len({found[1] for name in names if (found := re.match(pattern, name))})


def described(config: VQGANConfig) -> str:
    attention = ", ".join(map(str, config.encoder_attention)) or "none"
    return (
        f"{config.width} channels times {', '.join(map(str, config.multipliers))}, {config.blocks} blocks a level, "
        f"attention at level {attention}, {config.codebook} words of {config.dim}"
    )


def _misshapen(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name} {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in sorted(found.keys() & wanted.keys())
        if found[name].shape != wanted[name].shape
    ]


def _finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def _listed(what: str, names: Iterable[str]) -> list[str]:
    """``what`` and the names, at most :data:`_LISTED` of them spelled out; nothing if there are none."""
    ordered = sorted(names)
    if not ordered:
        return []
    more = [f"and {len(ordered) - _LISTED} more"] if len(ordered) > _LISTED else []
    return [f"{what} {', '.join([*ordered[:_LISTED], *more])}"]
