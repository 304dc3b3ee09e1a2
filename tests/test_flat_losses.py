"""The loss of images of a single colour sees what the eye sees in them."""

from __future__ import annotations

import torch

from uigc.training.losses import flat_distance


def test_a_pixel_that_stands_out_of_a_field_counts_most() -> None:
    field = torch.full((1, 3, 64, 64), 0.5)
    assert torch.allclose(flat_distance(field + 0.1, field), torch.tensor(0.1))
    assert flat_distance(field, field) < 0.3 / 255  # no more than the term that keeps its gradient finite
    noise = 0.1 * torch.ones(64, 64)
    noise[::2] *= -1
    lonely = torch.zeros(64, 64)
    lonely[32, 32] = 0.1 * 32  # as much in all, within the border of 16 pixels, of squares
    assert flat_distance(field + lonely, field) > 5 * flat_distance(field + noise, field)
    border = torch.ones(64, 64)
    border[16:-16, 16:-16] = 0
    assert flat_distance(field + border, field) == flat_distance(field, field)


def test_of_colours_that_share_a_token_the_frequent_one_wins() -> None:
    """Three fields of one colour outweigh two of another, however far away that is."""
    references = torch.tensor([0.5, 0.5, 0.5, 1.0, 1.0]).view(5, 1, 1, 1).expand(5, 3, 64, 64)
    for made, direction in ((0.6, 1), (0.9, 1)):
        colour = torch.tensor(made, requires_grad=True)
        flat_distance(colour.expand(5, 3, 64, 64), references).backward()  # type: ignore[no-untyped-call]
        assert colour.grad is not None
        assert colour.grad.sign() == direction
