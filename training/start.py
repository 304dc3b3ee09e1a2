"""The start of a run of the recipes decoder, flat and encoder: the networks of another run, or of a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

from uigc.export.modules.checkpoint import (
    TOKENIZER,
    codebook_fingerprint,
    digest,
    load_prior,
    load_tokenizer,
    save_prior,
    save_tokenizer,
)
from uigc.export.modules.interface import VQTokenizer
from uigc.runtime.bundle.manifest import MANIFEST
from uigc.runtime.errors import OutputError
from uigc.training.adversary import ADVERSARIES

PRIOR = "prior.safetensors"


def begin(recipe: str, output: Path, start: Path) -> None:
    """Give the run in ``output`` the tokenizer of ``start``, a run or a bundle, and its prior and adversaries if it has
    any. A run of ``recipe`` that has begun keeps what it has.

    Raises :class:`OutputError` if ``output`` holds another tokenizer, from which no such run has begun.
    """
    tokenizer = load_tokenizer(start)
    if (output / TOKENIZER).exists():
        if not (output / f"{recipe}.checkpoint").exists() and digest(load_tokenizer(output)) != digest(tokenizer):
            raise OutputError(
                f"{output} has another tokenizer than {start}; leave out --start to go on from it, or give another "
                "--output."
            )
        return
    output.mkdir(parents=True, exist_ok=True)
    _take_prior(output, start, tokenizer)
    if (start / ADVERSARIES).is_file():
        shutil.copyfile(start / ADVERSARIES, output / ADVERSARIES)
    # The tokenizer comes last: where it is, the rest is complete.
    save_tokenizer(output, tokenizer.state_dict(), tokenizer.config)


def _take_prior(output: Path, start: Path, tokenizer: VQTokenizer) -> None:
    bundled = (start / MANIFEST).is_file()
    if not bundled and not (start / PRIOR).is_file():
        return
    trained = load_prior(start)
    codebook = codebook_fingerprint(tokenizer) if bundled else trained.codebook
    save_prior(output, trained.prior.state_dict(), trained.prior, trained.mask_table, codebook=codebook)
