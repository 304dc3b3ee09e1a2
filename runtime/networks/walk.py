"""One image on its way through the stages of the prior: what is known of it, and who is told of the predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Bits, Predictions, Tokens
from uigc.runtime.errors import UigcError
from uigc.runtime.format.entropy_coder import Rows
from uigc.runtime.format.grid import Scalar
from uigc.runtime.format.regeneration import RandomNumbers
from uigc.runtime.networks.stage_cells import Cells

Exchange = Callable[[Predictions, Rows | None, Cells], Tokens]
"""Called for each stage with its predictions (asked, columns), with the rows of its sent tokens, None for all, and with
their cells; writes or reads these tokens, and returns them. If a file was cut, it returns the first of them."""
Observer = Callable[[Predictions, Rows | None, Cells], None]
"""Called for each stage with its predictions (asked, columns), with the rows of its tokens, None for all, and with
their cells."""


@dataclass
class Walk:
    """One image on its way through the stages; all grids are padded to whole windows, and flat but for ``context``.

    ``sent``: which tokens are in the file. ``exchange``: writes or reads them.
    ``context``: the network's input, in which lost tokens stay unknown.
    ``result``: the decoder's grid, in which lost tokens are regenerated.
    ``numbers``: the random numbers for lost tokens, None for the most likely tokens.
    ``observe``: looks at the predictions of every stage.
    ``failure``: the error that ended it early.
    """

    sent: Bits
    exchange: Exchange
    context: Tokens
    result: Tokens
    numbers: RandomNumbers | None = None
    observe: Observer | None = None
    failure: UigcError | None = None

    def copy(self, exchange: Exchange) -> Walk:
        """Return another walk from here on, which leaves this one as it is."""
        context, result = self.context.copy(), self.result.copy()
        return replace(self, sent=self.sent.copy(), exchange=exchange, context=context, result=result)

    def inside(self, grid: NDArray[Scalar], shape: tuple[int, ...]) -> NDArray[Scalar]:
        """Return the part (h, w) of one of the flat grids that lies in the image."""
        height, width = shape
        return np.ascontiguousarray(grid.reshape(self.context.shape)[:height, :width])

    def receive(self, cells: Cells, tokens: Tokens) -> None:
        """Take in tokens that are sent, which are known to every later stage."""
        self.context.reshape(-1)[cells] = tokens
        self.result[cells] = tokens
