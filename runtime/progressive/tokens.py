"""The exact half: the token grid of one file, as far as the bytes go that have arrived.

Stages are coded in their order, so the first bytes of a file hold its coarse grid. Of the bytes, those symbols are read
that are certain whatever follows (``format/prefix_reader.py``). A token that was sent and is not there is regenerated
as a lost one is, and like it never fed back, so that what follows it is guessed from what is certain alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uigc.runtime.arrays import Bits, Predictions, Tokens
from uigc.runtime.errors import CorruptFileError, UigcError
from uigc.runtime.format import bitstream
from uigc.runtime.format.bitstream import Beginning, Header
from uigc.runtime.format.entropy_coder import Rows
from uigc.runtime.format.prefix_reader import Place, PrefixReader
from uigc.runtime.networks.stage_cells import Cells, StageCells
from uigc.runtime.networks.walk import Walk
from uigc.runtime.token_codec import TokenCodec, check_of

_NONE = np.empty(0, dtype=np.int32)


@dataclass
class _Stages:
    """What has been read of a file whose mask is there.

    ``sent``: the tokens that the whole file holds, bool (h, w). ``walk``: the image behind its ``complete`` stages;
    ``begun``: the same behind the next one, of which some tokens may be missing; None while that is not looked at.
    ``predictions``: those of the next stage, which do not change until it is complete.
    """

    sent: Bits
    places: tuple[StageCells, ...]
    walk: Walk
    complete: int = 0
    begun: Walk | None = None
    predictions: Predictions | None = None


class ProgressiveTokens:
    """Reads one file as its bytes arrive; stages that are complete are never read or predicted again."""

    def __init__(self, codec: TokenCodec) -> None:
        self._codec, self._prior = codec, codec.prior
        self._data = bytearray()
        self._place: Place | None = None
        self._stages: _Stages | None = None
        self._failure: UigcError | None = None
        self.header: Header | None = None
        self.is_whole = False

    def feed(self, data: bytes) -> None:
        """Take in the next bytes of the file, and read what is certain by them.

        Raises a :class:`UigcError` if they cannot be the beginning of a file that this codec decodes, and for a file
        that is whole but damaged; from then on, everything raises it.
        """
        if self._failure is not None:
            raise self._failure
        try:
            self._take(data)
        except UigcError as error:
            self._failure, self._data = error, bytearray()
            raise

    def _take(self, data: bytes) -> None:
        self._data += data
        beginning = bitstream.unpack_beginning(bytes(self._data))
        if beginning is None:
            return
        whole = len(beginning.payload) == beginning.length
        if whole:
            self._codec.parse(bytes(self._data))  # which verifies it
        if self.header is None:
            self._codec.accept(beginning.header)
            self.header = beginning.header
        self._read(beginning)
        if whole and not self.is_whole:
            self._verify(beginning)

    @property
    def complete(self) -> int:
        """The number of leading stages of which every token that was sent is there."""
        return 0 if self._stages is None else self._stages.complete

    @property
    def sent(self) -> Bits:
        """The tokens that the whole file holds, bool (h, w).

        Raises a :class:`CorruptFileError` as long as the mask, which says this, is not there.
        """
        return self._begun().sent

    def received(self) -> Bits:
        """Return the tokens that are certain, bool (h, w); raises what :attr:`sent` does."""
        stages = self._begun()
        walk = stages.begun or stages.walk
        looked = stages.complete + (stages.begun is not None)
        stage_of = self._prior.schedule.stage_of(*stages.sent.shape)
        return walk.inside(walk.sent, stages.sent.shape) & (stage_of < looked)

    def grid(self) -> Tokens:
        """Return the grid int32 (h, w): certain tokens as they were sent, all others regenerated.

        Raises what :attr:`sent` does.
        """
        stages = self._begun()
        walk, first = (stages.begun or stages.walk).copy(_nothing), stages.complete + (stages.begun is not None)
        for stage in range(first, len(stages.places)):
            self._prior.step(stages.places[stage], walk, self._prior.look(stage, walk))
        return walk.inside(walk.result, stages.sent.shape)

    def _begun(self) -> _Stages:
        if self._failure is not None:
            raise self._failure
        if self._stages is not None:
            return self._stages
        if self.header is None:
            bitstream.unpack(bytes(self._data))  # raises: it ends in its header, if it is a file at all
        raise CorruptFileError(
            f"The file is truncated: it ends after {len(self._data)} bytes, before its mask does, and nothing of it "
            "can be decoded; fetch more of it."
        )

    def _read(self, beginning: Beginning) -> None:
        """Read the mask, and all stages that are complete by these bytes."""
        reader = PrefixReader(beginning.payload, beginning.length, self._place)
        if self._stages is None:
            sent = self._codec.read_mask(beginning.header, reader)
            if reader.cut:
                return
            walk = self._prior.begin(sent, _nothing, beginning.header.seed)
            self._stages, self._place = _Stages(sent, self._prior.cells(sent.shape), walk), reader.place()
        stages = self._stages
        while stages.complete < len(stages.places):
            if stages.predictions is None:
                stages.predictions = self._prior.look(stages.complete, stages.walk)
            begun = stages.walk.copy(lambda seen, rows, _: self._prior.model.decode(reader, seen, rows))
            self._prior.step(stages.places[stages.complete], begun, stages.predictions)
            stages.begun = begun  # not before it is filled: a step may fail, and what is begun counts as received
            if reader.cut:
                return
            self._place = reader.place()
            stages.walk, stages.begun, stages.predictions = begun, None, None
            stages.complete += 1

    def _verify(self, beginning: Beginning) -> None:
        PrefixReader(beginning.payload, beginning.length, self._place).expect_check(check_of(self.grid()))
        self.is_whole = True


def _nothing(predictions: Predictions, rows: Rows | None, cells: Cells) -> Tokens:
    """The exchange of a stage of which nothing is there."""
    return _NONE
