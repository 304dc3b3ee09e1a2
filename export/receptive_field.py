"""How far encoder and pixel decoder look, measured: what is not a number spreads to all that depends on it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from uigc.export.modules.interface import VQTokenizer
from uigc.runtime.format.bitstream import PATCH

FARTHEST = 24  # tokens; a network that looks farther counts as one that sees everything


def halos(tokenizer: VQTokenizer) -> dict[str, int | None]:
    """How many tokens around a tile its inside depends on, for ``encoder`` and ``decoder``; None if that is too many,
    as with a norm over the whole image."""
    if not tokenizer.config.local:
        return {"encoder": None, "decoder": None}
    side = 2 * FARTHEST + 1
    image = torch.zeros(1, 3, side * PATCH, side * PATCH)
    image[:, :, FARTHEST * PATCH : (FARTHEST + 1) * PATCH, FARTHEST * PATCH : (FARTHEST + 1) * PATCH] = torch.nan
    words = torch.zeros(1, _width(tokenizer), side, side)
    words[:, :, FARTHEST, FARTHEST] = torch.nan
    return {"encoder": _reach(tokenizer.encoder, image, 1), "decoder": _reach(tokenizer.decoder, words, PATCH)}


def _width(tokenizer: VQTokenizer) -> int:
    """Dimensions of a codeword."""
    return int(tokenizer.quantizer.words.shape[1])


def _reach(module: nn.Module, probe: Tensor, unit: int) -> int | None:
    """``unit``: how many of the output's elements a token has each way."""
    with torch.no_grad():
        touched = torch.isnan(module(probe)).any(1)[0]
    rows, columns = touched.nonzero().t() // unit
    reach = int(max((rows - FARTHEST).abs().max(), (columns - FARTHEST).abs().max()))
    return reach if reach < FARTHEST else None
