"""Tiny modules, from which a bundle is made in seconds, and the token grid that an independent decoder reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tests.support.reference_decoder import Model, decode
from uigc.export.modules.checkpoint import TrainedPrior
from uigc.export.modules.prior import Prior, PriorConfig
from uigc.export.modules.tokenizer import Tokenizer, TokenizerConfig
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.manifest import CODER_TABLE, MASK_TABLE
from uigc.runtime.codec import Codec
from uigc.runtime.exactness.conformance import Case, make_cases
from uigc.runtime.format.schedule import quincunx
from uigc.runtime.progress import silent

TINY_TOKENIZER = TokenizerConfig(16, 4, (8, 8, 16), (1, 1, 1), (8, 8, 8, 16), (1, 1, 1, 1))
QUARTER_TOKENIZER = TokenizerConfig(16, 4, (8, 8, 16), (1, 1, 1), (8, 8, 16), (1, 1, 1))
"""Its decoder's finest stage is at a quarter of the resolution, as in earlier bundles."""
TINY_PRIOR = PriorConfig(codebook=16, width=16, layers=2, heads=2, expansion=2, window=8)


def stage_of(bundle: Bundle, stage: int = 3, precision: str = "int8") -> Path:
    """Return the graph of a stage."""
    return bundle.graph(f"stage{stage}", precision)


def tiny_modules(seed: int, config: TokenizerConfig = TINY_TOKENIZER) -> tuple[Tokenizer, TrainedPrior]:
    torch.manual_seed(seed)
    tokenizer = Tokenizer(config).eval()
    tokenizer.quantizer.fitted.fill_(True)
    prior = Prior(TINY_PRIOR, quincunx())
    torch.nn.init.normal_(prior.head.weight, std=TINY_PRIOR.width**-0.5)  # as of one that has learned
    for block in prior.blocks:
        torch.nn.init.normal_(block.attention.scores.weight, std=0.5)
        torch.nn.init.normal_(block.attention.qkv.bias.weight, std=0.2)
        torch.nn.init.normal_(block.up.bias.weight, std=0.2)
    table = torch.from_numpy(np.random.default_rng(seed).integers(64, 65472, 1024)).int()
    return tokenizer, TrainedPrior(prior, table)


def tiny_cases(bundle: Bundle, windows: int) -> list[Case]:
    """Inputs of all stages with what they return: random windows, and an image of another size."""
    image = np.random.default_rng(1).integers(0, 16, (7, 11), dtype=np.int32)
    return make_cases(bundle, windows, [image], 0, 2, silent)


def reference_grid(codec: Codec, data: bytes) -> list[list[int]]:
    """The grid of a file by the decoder that was written from the format's page alone; what stages return behind their
    logits must be what that page says of it."""

    bundle = codec.bundle
    tables = bundle.table(CODER_TABLE).tolist(), bundle.table(MASK_TABLE).tolist()
    low = 2 ** ((bundle.codebook.bit_length() - 1) // 2)

    def logits(stage: int, grid: list[list[int]]) -> list[list[int]]:
        found = codec.token_codec.prior.load(stage)(np.array([grid], dtype=np.int32))[0].tolist()
        rows = [row[: bundle.codebook] for row in found]
        for row, whole in zip(rows, found, strict=True) if bundle.has_sums else ():
            weights = [tables[0][min(max(row) - each, 448)] for each in row]
            sums = [sum(weights[first : first + low]) for first in range(0, len(row), low)]
            assert whole[bundle.codebook :] == [*sums, max(row)]
        return rows

    model = Model(logits, *tables, bundle.codebook, bundle.window, bundle.unknown, bundle.pad)
    return decode(data, model)
