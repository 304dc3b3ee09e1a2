"""Bring your own tokenizer: import a VQGAN's checkpoint, train a prior, export both, and code images."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from tests.support import taming_vqgan
from tests.support.tiny import TINY_TOKENIZER, reference_grid
from uigc.export.bundle import write_bundle
from uigc.export.modules.checkpoint import load_prior, load_tokenizer, token_fingerprint
from uigc.export.modules.prior import PriorConfig
from uigc.export.modules.taming import infer_config
from uigc.export.modules.vqgan import VQGAN, VQGANConfig
from uigc.runtime.bundle import Bundle
from uigc.runtime.cli.main import main
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ExitCode, InputError, TooLargeError
from uigc.training.decoder import train as train_decoder
from uigc.training.loop import RunOptions
from uigc.training.prior import train as train_prior
from uigc.training.tokenizer import train as train_tokenizer

CODEWORDS, REDUCED = 48, 16  # 48 is not a power of two, so the codebook has to be reduced


@dataclass(frozen=True)
class Imported:
    """The files of one import, and the exported state: that of the checkpoint, with the reduced codewords."""

    photos: Path
    checkpoint: Path
    run: Path
    bundle: Path
    state: taming_vqgan.State


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory, sample: np.ndarray) -> Imported:
    """Do what a user does: import with a smaller codebook, train the prior (for two steps), export."""
    folder = tmp_path_factory.mktemp("vqgan")
    photos, checkpoint, run, bundle = (folder / name for name in ("photos", "last.ckpt", "run", "bundle"))
    photos.mkdir()
    for index in range(6):
        top, left = 20 * index, 30 * index
        Image.fromarray(sample[top : top + 256, left : left + 272]).save(photos / f"{index}.png")
    images = torch.from_numpy(sample[:192, :320].copy()).permute(2, 0, 1)[None].float() / 255
    state = taming_vqgan.checkpoint(CODEWORDS, images)
    torch.save({"state_dict": {**state, "loss.discriminator.main.0.weight": torch.zeros(2)}, "epoch": 3}, checkpoint)
    reduce = ("--codebook", REDUCED, "--images", photos, "--device", "cpu", "--quiet")
    assert main(["import-vqgan", str(checkpoint), "-o", str(run), *map(str, reduce)]) == 0
    options = RunOptions(photos, run, steps=2, minutes=None, batch=2, seed=0, device=torch.device("cpu"))
    train_prior(options, PriorConfig(width=16, layers=1, heads=1, window=8))
    write_bundle(load_tokenizer(run), load_prior(run), bundle, [sample[:96, :75]], False, lambda text: None)
    codewords = load_tokenizer(run).quantizer.words
    return Imported(photos, checkpoint, run, bundle, {**state, "quantize.embedding.weight": codewords})


def halved(state: taming_vqgan.State) -> taming_vqgan.State:
    """Return the weights as a bundle stores them."""
    return {name: value.half().float() for name, value in state.items()}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_graphs_compute_the_restated_networks(imported: Imported, precision: str) -> None:
    state, bundle = halved(imported.state), Bundle.load(imported.bundle)
    encoder, decoder = (
        onnxruntime.InferenceSession(bundle.graph(name, precision), providers=["CPUExecutionProvider"])
        for name in ("encoder", "decoder")
    )
    torch.manual_seed(1)
    used = set()
    for batch, height, width in ((1, 2, 2), (2, 3, 5), (1, 9, 4)):
        levels = torch.randint(256, (batch, 16 * height, 16 * width, 3), dtype=torch.uint8)
        (tokens,) = encoder.run(None, {"image": levels.numpy()})
        image = levels.permute(0, 3, 1, 2) / 255
        distances = taming_vqgan.distances(state, taming_vqgan.encode(state, image))
        found = distances.gather(3, torch.from_numpy(tokens).long()[..., None])[..., 0]
        assert tokens.shape == (batch, height, width)
        assert float((found - distances.amin(3)).max()) <= (1e-4 if precision == "fp32" else 0.02) * float(
            distances.mean()
        )
        used |= set(tokens.flatten().tolist())
        grid = torch.randint(REDUCED, (batch, height, width), dtype=torch.int32)
        (back,) = decoder.run(None, {"tokens": grid.numpy()})
        planes = back.transpose(0, 3, 1, 2) / 255
        errors = np.abs(planes - taming_vqgan.decode(state, grid).clamp(0, 1).numpy())
        assert planes.std() > 0.1
        assert errors.max() < 0.5 / 255 + 1e-4 if precision == "fp32" else errors.mean() < 1 / 255
    assert len(used) > 2


def test_the_module_computes_the_restated_networks(imported: Imported) -> None:
    vqgan = load_tokenizer(imported.run)
    image = torch.rand(2, 3, 48, 80)
    with torch.no_grad():
        latents = vqgan.encoder(image)
        tokens = vqgan.quantizer.assign(latents)
        back = vqgan.decoder(vqgan.quantizer.look_up(tokens))
    expected = taming_vqgan.encode(imported.state, image)
    assert torch.allclose(latents, expected, atol=1e-4)
    assert torch.equal(tokens, taming_vqgan.distances(imported.state, expected).argmin(3))
    assert torch.allclose(back, taming_vqgan.decode(imported.state, tokens), atol=1e-4)
    assert float(vqgan.quantizer.shortfall(latents, tokens).max()) == 0
    assert float(vqgan.quantizer.shortfall(latents, (tokens + 1) % REDUCED).max()) > 0.1


def test_images_are_coded_and_decoded(imported: Imported, sample: np.ndarray) -> None:
    codec = Codec(imported.bundle, threads=1)
    pixels = np.ascontiguousarray(sample[40:213, 100:350])
    for mask in ("entire", "edge", "edge_more"):
        encoded = codec.encode(pixels, mask)
        assert encoded.data == Codec(imported.bundle, threads=1, precision="fp32").encode(pixels, mask).data
        grid = codec.decode_tokens(encoded.data)
        assert np.array_equal(grid, encoded.grid)
        assert np.array_equal(grid, reference_grid(codec, encoded.data))
        pixels_of_grid = taming_vqgan.decode(halved(imported.state), torch.from_numpy(grid)[None])
        expected = pixels_of_grid[0, :, :173, :250].clamp(0, 1) * 255
        back = codec.decompress(encoded.data)
        assert back.shape == pixels.shape
        assert np.abs(back - expected.permute(1, 2, 0).numpy()).max() < 0.6
    assert len(np.unique(codec.tokenize(pixels))) > 2


def test_the_commands_take_the_bundle(imported: Imported, tmp_path: Path, sample: np.ndarray) -> None:
    Image.fromarray(sample[:90, :120]).save(tmp_path / "in.png")
    paths = [str(tmp_path / name) for name in ("in.png", "out.uigc", "out.png")]
    assert main(["compress", *paths[:2], "--bundle", str(imported.bundle), "--quiet"]) == 0
    assert main(["decompress", *paths[1:], "--bundle", str(imported.bundle), "--quiet"]) == 0
    with Image.open(paths[2]) as back:
        assert back.size == (120, 90)


def test_large_images_are_refused_unless_asked_for(imported: Imported) -> None:
    codec, ours = Codec(imported.bundle), Codec()
    assert (ours.bundle.local, codec.bundle.local) == (True, False)
    assert codec.bundle.manifest["tokenizer"]["kind"] == "vqgan"
    ours.limits.check(4096, 4096)
    with pytest.raises(TooLargeError, match="4194304 in all are possible with this bundle, whose tokenizer"):
        codec.limits.check(4096, 4096)
    Codec(imported.bundle, max_pixels=1 << 24).limits.check(4096, 4096)


def test_scales_of_resizes_stay_float32(imported: Imported) -> None:
    graph = onnx.load(Bundle.load(imported.bundle).graph("decoder", "fp16"), load_external_data=False)
    onnx.checker.check_model(str(Bundle.load(imported.bundle).graph("decoder", "fp16")))
    kinds = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    resizes = [node for node in graph.graph.node if node.op_type == "Resize"]
    assert len(resizes) == 4
    assert {kinds[name] for node in resizes for name in node.input[1:] if name} == {onnx.TensorProto.FLOAT}


def test_a_tokenizer_loads_from_a_bundle(imported: Imported) -> None:
    vqgan, image = load_tokenizer(imported.bundle), torch.rand(1, 3, 64, 48)
    state = halved(imported.state)
    with torch.no_grad():
        tokens = vqgan.quantizer.assign(vqgan.encoder(image))
    assert torch.equal(tokens, taming_vqgan.distances(state, taming_vqgan.encode(state, image)).argmin(3))


def test_the_decoder_learns_and_its_prior_stays_valid(imported: Imported, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(imported.run, run)
    before = load_tokenizer(run)
    options = RunOptions(imported.photos, run, steps=2, minutes=None, batch=4, seed=0, device=torch.device("cpu"))
    train_decoder(options, 48, None, regenerated=0.5)
    after = load_tokenizer(run)
    assert token_fingerprint(after) == token_fingerprint(before)
    name = "decoder.up.0.block.0.conv1.weight"
    assert not torch.equal(after.state_dict()[name], before.state_dict()[name])


def test_other_tokens_are_refused(imported: Imported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The checkpoint has the networks of the run's tokenizer, but other codewords."""
    state = {**imported.state, "quantize.embedding.weight": imported.state["quantize.embedding.weight"].flip(0)}
    torch.save(state, tmp_path / "other.pth")
    arguments = ["--tokenizer", str(tmp_path / "other.pth"), "-o", str(tmp_path / "bundle")]
    assert main(["export", str(imported.run), *arguments]) == ExitCode.INPUT
    assert "trained on the tokens of another codebook" in capsys.readouterr().err
    assert main(["export", str(imported.checkpoint), "-o", str(tmp_path / "bundle")]) == ExitCode.INPUT
    assert f"uigc import-vqgan {imported.checkpoint} -o RUN" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_the_tokenizer_recipe_does_not_continue_from_a_vqgan(imported: Imported, tmp_path: Path) -> None:
    options = RunOptions(imported.photos, tmp_path, steps=1, minutes=None, batch=1, seed=0, device=torch.device("cpu"))
    with pytest.raises(InputError, match="of the kind 'vqgan', which this recipe cannot train further"):
        train_tokenizer(options, TINY_TOKENIZER, 48, None, start=imported.run)


def test_the_published_layout() -> None:
    """Names and shapes of the full-size network (ch 128, ch_mult 1,1,2,2,4), restated, on the meta device."""
    with torch.device("meta"):
        stated = taming_vqgan.weights(1024, 256, 128, (1, 1, 2, 2, 4), blocks=2, latent=256)
        module = VQGAN(VQGANConfig()).state_dict()
    assert infer_config({name: tuple(value.shape) for name, value in stated.items()}, Path("x")) == VQGANConfig()
    renamed = {
        name.replace("encoder.quant_conv", "quant_conv")
        .replace("decoder.post_quant_conv", "post_quant_conv")
        .replace("quantizer.words", "quantize.embedding.weight"): value.shape
        for name, value in module.items()
    }
    assert renamed == {name: value.shape for name, value in stated.items()}
    assert 72e6 < sum(value.numel() for value in module.values()) < 73e6
