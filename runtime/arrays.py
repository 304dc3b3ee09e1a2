"""The arrays that pass between the parts of the codec, by name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""An image: (height, width, 3), sRGB, 0..255."""

Tokens = NDArray[np.int32]
"""Tokens: a grid (height, width) or a list (n,); codewords 0..codebook-1, and for a stage's input also the values
``unknown`` and ``pad`` that follow them."""

Logits = NDArray[np.int32]
"""Logits of the prior (n, codebook), in steps of 1/32 nat, -2047..2047."""

Bits = NDArray[np.bool_]
"""One truth value for each token of a grid (height, width), or for each block of 2x2 tokens."""
