"""Trained weights on disk: ``tokenizer.safetensors`` and ``prior.safetensors``, with configurations as metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from uigc.export.eight_bits import SCALE_SUFFIX, read
from uigc.export.modules import dyadic, floating
from uigc.export.modules.interface import Config, VQTokenizer
from uigc.export.modules.prior import ARITHMETIC, Prior, PriorConfig
from uigc.export.modules.tokenizer import TRAINING_STATE, Tokenizer, TokenizerConfig
from uigc.export.modules.vqgan import VQGAN, VQGANConfig
from uigc.runtime.bundle.bundle import PRIOR_PREFIX, Bundle
from uigc.runtime.bundle.manifest import MANIFEST, MASK_TABLE
from uigc.runtime.errors import BundleError, InputError
from uigc.runtime.format.schedule import Schedule
from uigc.runtime.io.atomic import replace as replace_file

TOKENIZER = "tokenizer.safetensors"
TOKENIZER_PREFIX = "tokenizer."
CODEBOOK = "quantizer.words"


def _save(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, object]) -> None:
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    text = {key: json.dumps(value) for key, value in metadata.items()}
    replace_file(path, lambda part: save_file(tensors, part, text))


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise InputError(f"There is no {path.name} in {path.parent}; train it with: python -m uigc.training.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
        if path.stem not in metadata:
            raise ValueError(f"no {path.stem} in its metadata")
        return load_file(path), metadata
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a trained {path.stem} ({error}); train it again.") from None


def make_tokenizer(config: Mapping[str, Any]) -> VQTokenizer:
    """Create a tokenizer from its configuration, with random weights; the default ``kind`` is our own."""
    kind = config.get("kind", TokenizerConfig.kind)
    if kind == TokenizerConfig.kind:
        return Tokenizer(TokenizerConfig.from_json(config))
    if kind == VQGANConfig.kind:
        return VQGAN(VQGANConfig.from_json(config))
    raise InputError(f"The tokenizer kind {kind!r} is unknown; use {TokenizerConfig.kind} or {VQGANConfig.kind}.")


def digest(module: nn.Module, of: Callable[[str], bool] = lambda name: True) -> str:
    """Return a hexadecimal hash of a module's weights, of those whose names are chosen by ``of``."""
    made = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if of(name):
            made.update(name.encode())
            made.update(value.cpu().contiguous().numpy().tobytes())
    return made.hexdigest()


def token_fingerprint(tokenizer: VQTokenizer) -> str:
    """Return a hexadecimal hash of the encoder and the codebook, which decide the tokens; the decoder does not."""
    return digest(tokenizer, lambda name: name.startswith("encoder.") or name == CODEBOOK)


def codebook_fingerprint(tokenizer: VQTokenizer) -> str:
    """Return a hexadecimal hash of the codebook, which decides what tokens mean, whichever encoder chose them."""
    return digest(tokenizer, lambda name: name == CODEBOOK)


def save_tokenizer(folder: Path, state: Mapping[str, Tensor], config: Config) -> None:
    _save(folder / TOKENIZER, state, {"tokenizer": config.to_metadata()})


def load_tokenizer(folder: Path) -> VQTokenizer:
    """Load the tokenizer of a training run, or of a bundle, in evaluation mode."""
    if (folder / MANIFEST).is_file():
        return _bundled_tokenizer(Bundle.load(folder))
    state, metadata = _load(folder / TOKENIZER)
    tokenizer = make_tokenizer(metadata["tokenizer"])
    tokenizer.load_state_dict(state)
    return tokenizer.eval()


def _bundled_tokenizer(bundle: Bundle) -> VQTokenizer:
    """Load the tokenizer of a bundle, which has no running sums: they start again from its codewords.

    Raises :class:`BundleError` if the bundle's weights are not exactly those of the tokenizer that it describes.
    """
    bundle.expect_encoder()
    tokenizer = make_tokenizer(bundle.manifest["tokenizer"])
    scales = {name + SCALE_SUFFIX for name in bundle.weights}
    names = [name for name in bundle.weights if name.startswith(TOKENIZER_PREFIX) and name not in scales]
    state = {name.removeprefix(TOKENIZER_PREFIX): torch.from_numpy(read(bundle.weights, name)) for name in names}
    kept = {name: value for name, value in tokenizer.state_dict().items() if name in TRAINING_STATE}
    try:
        tokenizer.load_state_dict({**kept, **state})
    except RuntimeError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise BundleError(
            f"The weights of {bundle.path} are not those of the tokenizer in its manifest ({reason}); export it again."
        ) from None
    if isinstance(tokenizer, Tokenizer):
        tokenizer.quantizer.sums.copy_(tokenizer.quantizer.words)
        tokenizer.quantizer.fitted.fill_(True)
    return tokenizer.eval()


def save_prior(
    folder: Path,
    state: Mapping[str, Tensor],
    prior: Prior,
    mask_table: Tensor,
    name: str = "prior",
    codebook: str | None = None,
) -> None:
    """Save a prior with the table of the mask.

    ``mask_table``: probabilities of the edge bits int32 (1024,), as from ``count_table`` of ``format/mask_coding.py``;
    ``name``: ``prior``, or ``twin`` for one of float blocks; ``codebook``: the fingerprint of the codebook on
    whose tokens it was trained.
    """
    metadata = {name: prior.config.to_json(), "schedule": prior.schedule.to_json(), "codebook": codebook}
    _save(folder / f"{name}.safetensors", {**state, MASK_TABLE: mask_table}, metadata)


@dataclass(frozen=True)
class TrainedPrior:
    """A prior in evaluation mode, not yet frozen, the mask's table int32 (1024,), and the fingerprint of the codebook
    on whose tokens it was trained, if it is known."""

    prior: Prior
    mask_table: Tensor
    codebook: str | None = None

    def freeze_for(self, tokenizer: VQTokenizer) -> Prior:
        """Return the prior frozen; raises :class:`InputError` if it does not predict the tokens of ``tokenizer``."""
        if self.prior.config.codebook != tokenizer.config.codebook:
            raise InputError(
                f"The prior predicts {self.prior.config.codebook} codewords and the tokenizer has "
                f"{tokenizer.config.codebook}; train both in the same folder."
            )
        if self.codebook not in (None, codebook_fingerprint(tokenizer)):
            raise InputError(
                "The prior was trained on the tokens of another codebook than the tokenizer's; train it again on this "
                "one, or give the one that it was trained on."
            )
        return self.prior.freeze()


def _prior_config(stored: Mapping[str, Any], source: Path, any_arithmetic: bool = False) -> PriorConfig:
    config = dict(stored)
    if config.pop("arithmetic") != ARITHMETIC and not any_arithmetic:
        raise InputError(f"{source} has another arithmetic than {ARITHMETIC}; train and export it again.")
    return PriorConfig(**config)


def frozen_prior(bundle: Bundle, any_arithmetic: bool = False) -> Prior:
    """Load the prior of a bundle as a module, with the weights that the bundle's graphs read.

    Its arithmetic must be the module's, unless ``any_arithmetic``.
    """
    config = _prior_config(bundle.manifest["prior"]["config"], bundle.path, any_arithmetic)
    prior = Prior(config, bundle.schedule).freeze()
    names = prior.state_dict()
    weights = {name: bundle.weights.read(f"{PRIOR_PREFIX}{name}").astype("float32") for name in names}
    prior.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    return prior


def load_prior(folder: Path, twin: bool = False, any_arithmetic: bool = False) -> TrainedPrior:
    """Load the prior of a training run, or its float twin; or the prior of a bundle, to continue its training.

    ``any_arithmetic``: accept a prior that was trained with another arithmetic, as a starting point for this one.
    """
    if (folder / MANIFEST).is_file():
        bundle = Bundle.load(folder)
        prior = frozen_prior(bundle, any_arithmetic)
        dyadic.thaw(prior)
        return TrainedPrior(prior, torch.from_numpy(bundle.table(MASK_TABLE)))
    name = "twin" if twin else "prior"
    path = folder / f"{name}.safetensors"
    state, metadata = _load(path)
    config = _prior_config(metadata[name], path, any_arithmetic)
    schedule = Schedule.from_json(metadata["schedule"]["tile"], metadata["schedule"]["stages"])
    table = state.pop(MASK_TABLE)
    prior = Prior(config, schedule, floating if twin else dyadic)
    prior.load_state_dict(state)
    return TrainedPrior(prior.eval(), table.to(torch.int32), metadata.get("codebook"))
