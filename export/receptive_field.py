"""Measure the receptive fields of the encoder and pixel decoder: set one position to NaN, see how far NaNs spread."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from uigc.export.modules.interface import VQTokenizer
from uigc.runtime.format.bitstream import PATCH

FARTHEST = 24  # tokens; a network that looks farther counts as one that sees the whole image


def halos(tokenizer: VQTokenizer) -> dict[str, int | None]:
    """Return the width of the border, in tokens, that a tile needs on each side, for ``encoder`` and ``decoder``.

    None if the network looks farther than ``FARTHEST`` tokens, as one with a norm over the whole image does.
    """
    if not tokenizer.config.local:
        return {"encoder": None, "decoder": None}
    side = 2 * FARTHEST + 1
    image = torch.zeros(1, 3, side * PATCH, side * PATCH)
    middle = slice(FARTHEST * PATCH, (FARTHEST + 1) * PATCH)  # the pixels of the token in the middle
    image[:, :, middle, middle] = torch.nan
    codewords = torch.zeros(1, tokenizer.quantizer.words.shape[1], side, side)
    codewords[:, :, FARTHEST, FARTHEST] = torch.nan
    return {"encoder": _reach(tokenizer.encoder, image, 1), "decoder": _reach(tokenizer.decoder, codewords, PATCH)}


def _reach(module: nn.Module, probe: Tensor, unit: int) -> int | None:
    """Return how many tokens from the middle of ``probe`` the output of ``module`` has NaNs.

    ``unit``: how many elements of the output a token covers along each side.
    """
    with torch.no_grad():
        touched = torch.isnan(module(probe)).any(1)[0]
    rows, columns = touched.nonzero().t() // unit
    reach = int(max((rows - FARTHEST).abs().max(), (columns - FARTHEST).abs().max()))
    return reach if reach < FARTHEST else None
