"""The mask: its text, the choice of blocks, and the coding of the edge bits."""

from __future__ import annotations

import numpy as np
import pytest

from uigc.runtime.errors import UsageError
from uigc.runtime.format import block_choice, mask, mask_coding
from uigc.runtime.format.mask import Mask
from uigc.runtime.format.mask_mode import MaskMode
from uigc.runtime.format.range_coder import SymbolReader, SymbolWriter
from uigc.runtime.format.schedule import quincunx

RNG = np.random.default_rng(3)
SHAPES = [(1, 1), (1, 7), (9, 1), (2, 2), (16, 24), (33, 17)]


def blobs(shape: tuple[int, int]) -> np.ndarray:
    noise = RNG.random((shape[0] + 4, shape[1] + 4))
    smooth = sum(noise[y : y + shape[0], x : x + shape[1]] for y in range(5) for x in range(5))
    return smooth > 12.5


@pytest.mark.parametrize("shape", SHAPES)
def test_bits_come_back(shape: tuple[int, int]) -> None:
    table = mask_coding.count_table([blobs((40, 40))])
    for bits in (blobs(shape), np.zeros(shape, bool), np.ones(shape, bool)):
        writer = SymbolWriter()
        mask_coding.write_bits(writer, bits, table)
        assert np.array_equal(
            mask_coding.read_bits(SymbolReader(writer.finish()), shape, mask_coding.MaskModels(table)), bits
        )


def test_contexts_by_their_definition() -> None:
    bits = blobs((6, 9))
    offsets = [(-2, -1), (-2, 0), (-2, 1), (-1, -2), (-1, -1), (-1, 0), (-1, 1), (-1, 2), (0, -2), (0, -1)]
    expected = []
    for y in range(6):
        for x in range(9):
            context = 0
            for dy, dx in offsets:
                inside = y + dy >= 0 and 0 <= x + dx < 9
                context = context * 2 + int(inside and bits[y + dy, x + dx])
            expected.append(context)
    assert mask_coding.contexts(bits).tolist() == expected


def test_a_trained_table_saves_bits() -> None:
    table = mask_coding.count_table([blobs((32, 32)) for _ in range(40)])
    writer = SymbolWriter()
    bits = blobs((32, 32))
    mask_coding.write_bits(writer, bits, table)
    assert 8 * len(writer.finish()) < 0.75 * bits.size
    assert table.min() >= 64
    assert table.max() <= 65472


def test_edges_lie_where_the_image_changes() -> None:
    image = np.zeros((96, 128, 3), np.uint8)
    image[:, 70:] = 200
    assert np.array_equal(block_choice.edge_blocks(image, 16), np.tile([False, False, True, False], (3, 1)))


@pytest.mark.parametrize("size", [(16, 16), (48, 80), (16, 48)])
def test_a_flat_image_has_no_edges(size: tuple[int, int]) -> None:
    edges = block_choice.edge_blocks(np.full((*size, 3), 77, np.uint8), 16)
    assert edges.shape == mask.block_shape(size[0] // 16, size[1] // 16)
    assert not edges.any()


@pytest.mark.parametrize(("mode", "share"), [(MaskMode.ENTIRE, 1), (MaskMode.EDGE, 0.5), (MaskMode.EDGE_MORE, 0.25)])
def test_shares_off_and_on_the_edges(mode: MaskMode, share: float) -> None:
    off = mask.sent_tokens(mode, np.zeros((8, 8), bool), quincunx(), 16, 16)
    assert off.mean() == share
    assert mask.sent_tokens(mode, np.ones((8, 8), bool), quincunx(), 16, 16).all()


def test_odd_grids() -> None:
    edges = np.zeros((2, 3), bool)
    edges[1, 2] = True
    sent = mask.sent_tokens(MaskMode.EDGE, edges, quincunx(), 3, 5)
    assert sent.shape == (3, 5)
    assert sent[2, 4]
    assert not sent[0, 1]


def test_a_share_of_the_blocks_lies_on_edges() -> None:
    image = RNG.integers(256, size=(160, 224, 3), dtype=np.uint8)
    previous = np.zeros((5, 7), bool)
    for share in (0, 0.2, 0.5, 1):
        edges = block_choice.edge_blocks(image, 16, share)
        assert edges.sum() == round(share * 35)
        assert not (previous & ~edges).any()  # more of them, never others
        previous = edges
    flat = block_choice.edge_blocks(np.full((64, 64, 3), 9, np.uint8), 16, 0.5)
    assert flat.tolist() == [[True, True], [False, False]]  # of equals, the first


def test_blocks_that_would_be_missed_most() -> None:
    codewords = np.array([[0, 0], [3, 4], [100, 0]])
    tokens = np.array([[0, 1, 2, 2, 0], [0, 0, 2, 2, 1], [1, 1, 0, 0, 1]], np.int32)
    back = np.array([[0, 0, 2, 0, 0], [0, 0, 2, 2, 0], [1, 0, 0, 0, 1]], np.int32)
    # Losses of the blocks: 25, 10000, 25 above and 25, 0, 0 below; their mean is 1679.
    assert block_choice.lost_blocks(tokens, back, codewords).tolist() == [[False, True, False], [False] * 3]
    assert block_choice.lost_blocks(tokens, back, codewords, 0.5).tolist() == [[True, True, True], [False] * 3]
    assert not block_choice.lost_blocks(tokens, tokens, codewords).any()


def test_a_mask_from_text() -> None:
    assert mask.Mask.parse("edge") == mask.Mask.parse(MaskMode.EDGE) == mask.Mask(MaskMode.EDGE)
    assert mask.Mask.parse("edge_more:0.25") == mask.Mask(MaskMode.EDGE_MORE, 0.25)
    labels = (
        "entire",
        "edge:0.5",
        "edge@gradient",
        "edge_more:0@gradient",
        "edge+draw",
        "edge:0.5@gradient+draw7",
        "edge:0.1234567",
        "edge:0.00001",
    )
    for label in labels:
        assert mask.Mask.parse(mask.Mask.parse(label)).label == label
    assert mask.Mask.parse("edge+draw") == mask.Mask(MaskMode.EDGE, seed=0)
    wrong = ("none", "edge:", "edge:x", "edge:1.5", "edge:nan", "edge@sobel", "entire:0.5", "entire@gradient")
    for text in (*wrong, "entire+draw", "edge+draw256", "edge+draw-1", "edge+drawn"):
        with pytest.raises(UsageError, match="mask"):
            mask.Mask.parse(text)


@pytest.mark.parametrize(
    "fields",
    [
        ("edge",), (1,), (None,), (MaskMode.EDGE, 1.5), (MaskMode.EDGE, -0.1), (MaskMode.EDGE, float("nan")),
        (MaskMode.EDGE, True), (MaskMode.EDGE, "0.5"), (MaskMode.EDGE, None, "size"),
        (MaskMode.EDGE, None, "loss", 256),
        (MaskMode.EDGE, None, "loss", -1), (MaskMode.EDGE, None, "loss", 1.0), (MaskMode.EDGE, None, "loss", True),
        (MaskMode.ENTIRE, 0.5), (MaskMode.ENTIRE, None, "gradient"), (MaskMode.ENTIRE, None, "loss", 0),
    ],
)  # fmt: skip
def test_a_mask_checks_itself(fields: tuple[object, ...]) -> None:
    """A mask that no decoder reads cannot be made, neither from text nor directly."""
    with pytest.raises(UsageError, match="The mask is not valid with mode"):
        Mask(*fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("choice", [None, 3, b"edge", ["edge"]])
def test_what_is_no_mask(choice: object) -> None:
    with pytest.raises(UsageError, match="There is no mask"):
        Mask.parse(choice)  # type: ignore[arg-type]
