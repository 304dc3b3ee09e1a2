"""Weights in 8 bits: what is stored is exactly what every precision of a graph computes with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from tests.support.tiny import QUARTER_TOKENIZER, TINY_TOKENIZER, tiny_modules
from uigc.calibration import layers as calibrated_layers
from uigc.calibration.graph import Scales, quantize
from uigc.calibration.store import integer_convolutions
from uigc.export import bundle, eight_bits
from uigc.export.calibrated import keep
from uigc.export.modules.checkpoint import _bundled_tokenizer, load_tokenizer
from uigc.export.modules.tokenizer import TRAINING_STATE, TokenizerConfig
from uigc.export.trace import specs
from uigc.runtime import providers
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.manifest import file_entry
from uigc.runtime.bundle.safetensors import TensorFile
from uigc.runtime.cli.main import main
from uigc.runtime.errors import BundleError
from uigc.runtime.providers import ProviderOptions

RNG = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def test_rounded_weights_split_exactly_and_stay(tmp_path: Path) -> None:
    weights = normal(40, 6, 3, 3) * np.logspace(-6, 2, 40, dtype=np.float32)[:, None, None, None]
    weights[7] = 0
    assert eight_bits.split(weights) is None
    rounded = eight_bits.round_to_eight_bits(weights)
    parts = eight_bits.split(rounded)
    assert parts is not None
    assert np.array_equal(eight_bits.round_to_eight_bits(rounded), rounded)
    assert np.array_equal(rounded.astype(np.float16).astype(np.float32), rounded)
    save_file({"w": parts[0], "w.scale": parts[1], "half": weights.astype(np.float16)}, tmp_path / "file")
    file = TensorFile(tmp_path / "file")
    assert np.array_equal(eight_bits.read(file, "w"), rounded)
    assert np.array_equal(eight_bits.read(file, "half"), weights.astype(np.float16).astype(np.float32))
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    # Half a step of at most largest / 112, but for numbers so small that half precision is coarser.
    assert (np.abs(rounded - weights) <= np.maximum(largest / 112 / 2, 2.0**-22)).all()


@pytest.mark.parametrize("config", [TINY_TOKENIZER, QUARTER_TOKENIZER], ids=["half", "quarter"])
def test_graphs_read_eight_bits_as_their_modules_do(
    config: TokenizerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Export a decoder whose convolutions are all stored in 8 bits; the exporter compares it with its module."""
    monkeypatch.setattr(eight_bits, "SMALLEST", 64)
    tokenizer, trained = tiny_modules(4, config)
    before = tokenizer.decoder.layers[0].weight.detach().clone()
    bundle._round_as_stored(tokenizer)
    assert 0 < (tokenizer.decoder.layers[0].weight - before).abs().max() < before.abs().max() / 64
    export = bundle._Export(tokenizer, trained.prior, trained.mask_table.numpy(), tmp_path, [], lambda text: None)
    spec = specs(tokenizer, trained.prior)[-1]
    models = export._trace(spec)
    (tmp_path / "weights.safetensors").write_bytes(export.store.serialize())
    file = TensorFile(tmp_path / "weights.safetensors")
    assert set(export._save(spec, models, file, "")) == {"fp32", "fp16"}
    convolutions = {f"decoder.{n}": m for n, m in tokenizer.decoder.named_modules() if isinstance(m, torch.nn.Conv2d)}
    for name, module in convolutions.items():
        assert file.read(f"tokenizer.{name}.weight").dtype == np.uint8
        assert np.array_equal(eight_bits.read(file, f"tokenizer.{name}.weight"), module.weight.detach().numpy())
    monkeypatch.setattr(calibrated_layers, "light", lambda shape, paints: False)
    full, half = (onnx.load(tmp_path / f"decoder.{precision}.onnx") for precision in ("fp32", "fp16"))
    found, _ = calibrated_layers.layers(full, half, True)
    assert {layer.weight for layer in found} == {f"tokenizer.{name}.weight" for name in convolutions}
    chosen = {layer.name: Scales(0.05, 0.05, layer.weight_scales) for layer in found}
    onnx.save(quantize(onnx.load(tmp_path / "decoder.fp16.onnx", load_external_data=False), chosen), tmp_path / "int8")
    assert integer_convolutions(tmp_path / "int8") == len(found)


def test_a_bundle_in_eight_bits_is_read_whole_and_exported_again_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its calibrated graphs, which need no photographs again."""
    monkeypatch.setattr(eight_bits, "SMALLEST", 64)
    monkeypatch.setattr(calibrated_layers, "light", lambda shape, paints: False)
    tokenizer, trained = tiny_modules(5)
    trained_weight = tokenizer.decoder.layers[0].weight.detach().numpy().copy()
    first, second = tmp_path / "first", tmp_path / "second"
    bundle.write_bundle(tokenizer, trained, first, [], False, lambda text: None)
    loaded = load_tokenizer(first)
    for name, value in tokenizer.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]) or name in TRAINING_STATE, name
    stored = loaded.decoder.layers[0].weight.detach().numpy()
    assert np.array_equal(stored, eight_bits.round_to_eight_bits(trained_weight))  # not from half precision
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for number in range(3):
        Image.fromarray(RNG.integers(0, 256, (80, 80, 3), dtype=np.uint8)).save(photographs / f"{number}.png")
    settings = ("--psnr-only", "--observe", "2", "--measure", "1", "--psnr-loss", "99", "--quiet")
    assert main(["calibrate", str(first), "--images", str(photographs), *settings]) == 0
    assert main(["export", str(first), "-o", str(second), "--quiet"]) == 0
    calibrated = {"encoder.int8.onnx", "decoder.int8.onnx", "calibration.json", "calibration.md"}
    assert calibrated <= {path.name for path in second.iterdir()}
    for path in second.iterdir():  # all of it, manifest and seal included
        assert path.read_bytes() == (first / path.name).read_bytes(), path.name


def test_calibrated_graphs_are_moved_to_where_their_weights_lie(tmp_path: Path) -> None:
    source = Bundle.load()
    tensors = {name: source.weights.read(name) for name in source.weights}
    save_file({"a": np.zeros(3, np.float32), **tensors}, tmp_path / "weights.safetensors")
    file = TensorFile(tmp_path / "weights.safetensors")
    found = keep(source, tmp_path, file)
    assert found is not None
    graphs, reports = found
    assert set(graphs) == {"encoder", "decoder"}
    given = {"encoder": RNG.integers(0, 256, (1, 32, 48, 3), np.uint8), "decoder": np.arange(6, dtype=np.int32)}
    for name, array in given.items():
        array = array.reshape(1, 2, 3) if name == "decoder" else array
        assert graphs[name]["sha256"] != source.manifest["graphs"][name]["precisions"]["int8"]["sha256"]
        moved, before = (
            providers.find("cpu").load(path, ProviderOptions())
            for path in (tmp_path / f"{name}.int8.onnx", source.graph(name, "int8"))
        )
        assert np.array_equal(moved(array), before(array))
        report = json.loads((tmp_path / "calibration.json").read_text())
        assert report["graphs"][name]["graph"] == graphs[name]["sha256"]
    ends = {"data": "json", "report": "md"}
    assert reports == {part: file_entry(tmp_path / f"calibration.{end}") for part, end in ends.items()}


@pytest.mark.parametrize("altered", [True, False], ids=["another", "absent"])
def test_calibrated_graphs_of_other_weights_are_left_out(altered: bool, tmp_path: Path) -> None:
    source = Bundle.load()
    tensors = {name: source.weights.read(name) for name in source.weights}
    name = next(name for name in tensors if name.startswith("tokenizer.decoder") and tensors[name].dtype == np.uint8)
    changed = tensors.pop(name).copy()
    changed.flat[0] ^= 1
    save_file({**tensors, **({name: changed} if altered else {})}, tmp_path / "weights.safetensors")
    assert keep(source, tmp_path, TensorFile(tmp_path / "weights.safetensors")) is None
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


@pytest.mark.parametrize("widths", [(8, 8, 8, 32), (8, 8, 16)], ids=["larger", "of fewer stages"])
def test_a_tokenizer_that_is_not_the_one_described_is_refused(tiny_path: Path, widths: tuple[int, ...]) -> None:
    """Instead of leaving random what the weights do not hold, or passing over what the module lacks."""
    found = Bundle.load(tiny_path)
    blocks = [1] * len(widths)
    described = {**found.manifest["tokenizer"], "decoder_widths": list(widths), "decoder_blocks": blocks}
    altered = replace(found, manifest={**found.manifest, "tokenizer": described})
    with pytest.raises(BundleError, match="not those of the tokenizer in its manifest"):
        _bundled_tokenizer(altered)
