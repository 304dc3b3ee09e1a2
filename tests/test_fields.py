"""Fields of tokens: which there are, how they are painted without an end, and as int8 paints them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from torch import nn

from uigc.bench.flat_fields import COLOURS
from uigc.export.modules.checkpoint import load_tokenizer
from uigc.export.modules.interface import VQTokenizer
from uigc.runtime.bundle import default_path
from uigc.training.fields import SIDES, FakeInt8, Fields, circular, fake_int8


@pytest.fixture
def tokenizer(tiny_path: Path) -> VQTokenizer:
    return load_tokenizer(tiny_path).requires_grad_(False)


def test_circular_padding_is_the_middle_of_a_large_field(tokenizer: VQTokenizer) -> None:
    words = torch.arange(4).view(-1, 1, 1)
    large = tokenizer.decoder(tokenizer.quantizer.look_up(words.expand(-1, 25, 25)))
    middle = slice(12 * 16, 13 * 16)
    made = circular(tokenizer.decoder)(tokenizer.quantizer.look_up(words))
    assert torch.allclose(made, large[:, :, middle, middle], atol=1e-5)
    assert not torch.allclose(made, tokenizer.decoder(tokenizer.quantizer.look_up(words)), atol=1e-3)
    image = torch.rand(3, 3, 1, 1)
    latents = tokenizer.encoder(image.expand(-1, 3, 400, 400).contiguous())[:, :, 12:13, 12:13]
    assert torch.allclose(circular(tokenizer.encoder)(image.expand(-1, 3, 16, 16).contiguous()), latents, atol=1e-4)


def test_it_is_painted_with_the_same_weights(tokenizer: VQTokenizer) -> None:
    twin = circular(tokenizer.decoder)
    assert [*map(id, twin.parameters())] == [*map(id, tokenizer.decoder.parameters())]
    layers = [module for module in tokenizer.decoder.modules() if isinstance(module, nn.Conv2d)]
    assert {layer.padding_mode for layer in layers} == {"zeros"}


def test_int8_is_rounded_and_learns_as_if_it_were_not() -> None:
    torch.manual_seed(0)
    given = torch.rand(2, 64, 4, 4, requires_grad=True)
    layer = nn.Conv2d(64, 64, 3, padding=1, bias=False)
    exact, twin = layer(given), FakeInt8(layer)
    made = twin(given)
    assert 0 < float((made - exact).detach().abs().max()) < 0.05 * float(exact.detach().abs().max())
    levels = made.detach().unique()
    assert len(levels) <= 255
    steps = levels / levels.diff().min()
    assert torch.allclose(steps, steps.round(), atol=1e-2)
    assert not torch.equal(twin(given), made)  # with other ranges
    weights = torch.rand_like(made)
    wanted, found = (torch.autograd.grad((weights * each).sum(), (given, layer.weight)) for each in (exact, made))
    for one, other in zip(wanted, found, strict=True):  # of rounded weights and inputs, so not quite the same
        assert float((one - other).norm()) < 0.02 * float(one.norm())


def test_the_layers_of_int8_are_those_of_the_default_bundle() -> None:
    """Those that its calibration quantized."""
    bundle = default_path()
    decoder = fake_int8(load_tokenizer(bundle).decoder)
    found = {name for name, module in decoder.named_modules() if isinstance(module, FakeInt8)}
    layers = json.loads((bundle / "calibration.json").read_text())["graphs"]["decoder"]["layers"]
    quantized = [layer["weight"] for layer in layers if layer["precision"] == "int8"]
    assert {f"tokenizer.decoder.{name}.weight" for name in found} == set(quantized)


def test_tokens_and_their_colours_are_those_of_the_networks(tokenizer: VQTokenizer) -> None:
    """A token has one colour, whether its field has borders or not: that of the images that become it."""
    fields = Fields.of(tokenizer, tokenizer.decoder)
    tokens = fields.tokens.flatten().tolist()
    assert tokens == sorted(set(tokens))
    pure: dict[int, list[torch.Tensor]] = {}
    for colour in COLOURS.values():
        image = (torch.tensor(colour).view(1, 3, 1, 1) / 255).expand(1, 3, 400, 400)
        token = int(tokenizer.quantizer.assign(tokenizer.encoder(image.contiguous()))[0, 12, 12])
        pure.setdefault(token, []).append(torch.tensor(colour) / 255)
    painted = circular(tokenizer.decoder)(tokenizer.quantizer.look_up(fields.tokens)).mean((2, 3)).clamp(0, 1)
    for token, colour, own in zip(tokens, fields.colours[:, :, 0, 0], painted, strict=True):
        wanted = torch.stack(pure[token]).mean(0) if token in pure else own
        assert torch.allclose(colour, wanted, atol=1e-6)
    means = [torch.stack(shared).mean(0) for shared in pure.values() for _ in shared]
    assert torch.allclose(fields.theirs.sum(0).flatten(), torch.stack(means).sum(0), atol=1e-5)


def test_grids_with_borders_come_in_all_sizes(tokenizer: VQTokenizer) -> None:
    fields, rng = Fields.of(tokenizer, tokenizer.decoder), random.Random(0)
    drawn = [fields.draw(rng) for _ in range(30)]
    assert {grids.shape[1:] for grids, _ in drawn} == {(side, side) for side in SIDES}
    for grids, colours in drawn:
        assert len(grids) == len(colours)
        assert 300 < grids.numel() <= 576
    colours = torch.tensor([*COLOURS.values()]).view(-1, 3, 1, 1) / 255
    for side, grids in fields.grids.items():
        for colour, grid in zip(colours, grids, strict=True):
            image = colour.expand(1, 3, 16 * side, 16 * side).contiguous()
            assert torch.equal(tokenizer.quantizer.assign(tokenizer.encoder(image))[0], grid)
