"""The types of the arrays that pass between the parts of the codec."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""An image: (height, width, 3), sRGB, 0..255."""

Tokens = NDArray[np.int32]
"""Indices of codewords 0..codebook-1 as a grid (height, width) or a list (n,); the inputs of a stage also hold the
tokens ``unknown`` and ``pad`` that follow them."""

Logits = NDArray[np.int32]
"""Logits of the prior (n, codebook), in steps of 1/32 nat, -2047..2047."""

Predictions = NDArray[np.int32]
"""What a stage predicts, a row for each token: its logits (n, codebook), or, where the bundle has sums, its logits, the
weights of its high digits and its largest logit (n, codebook + high digits + 1)."""

Bits = NDArray[np.bool_]
"""A boolean for each token of a grid (height, width), or for each of its blocks of 2x2 tokens."""
