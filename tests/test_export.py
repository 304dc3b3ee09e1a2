"""The contents of an exported bundle, and the refusal of wrong traces."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.tiny import QUARTER_TOKENIZER, TINY_PRIOR, tiny_modules
from uigc.export import bundle, trace
from uigc.export.bundle import write_bundle
from uigc.export.modules.checkpoint import TrainedPrior, load_prior, load_tokenizer, save_prior, save_tokenizer
from uigc.export.modules.prior import Prior, PriorConfig, Stage
from uigc.export.modules.tokenizer import TokenizerConfig
from uigc.export.proof import prove_file, token_domain
from uigc.export.weights import SMALLEST_HALF, WeightStore, compact
from uigc.runtime.bundle.safetensors import TensorFile
from uigc.runtime.codec import Codec
from uigc.runtime.errors import InputError, OutputError
from uigc.runtime.format.schedule import Schedule, quincunx


def graphs(path: Path) -> dict[str, onnx.ModelProto]:
    return {file.stem: onnx.load(file, load_external_data=False) for file in sorted(path.glob("*.onnx"))}


def test_graphs_share_one_file_of_weights(tiny_path: Path) -> None:
    models = graphs(tiny_path)
    stages = [f"stage{k}.{precision}" for k in range(6) for precision in ("fp32", "int8")]
    assert list(models) == ["decoder.fp16", "decoder.fp32", "encoder.fp16", "encoder.fp32", *stages]
    file = TensorFile(tiny_path / "weights.safetensors")
    offsets = {file.offset(name): name for name in file}
    used: dict[str, set[str]] = {}
    for graph, model in models.items():
        onnx.checker.check_model(str(tiny_path / f"{graph}.onnx"))
        for tensor in model.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                entries = {entry.key: entry.value for entry in tensor.external_data}
                name = offsets[int(entries["offset"])]
                assert int(entries["length"]) == file.nbytes(name)
                used.setdefault(name, set()).add(graph)
    for name in file:
        if name.startswith("prior.blocks") and "scores" not in name and file.read(name).ndim == 2:
            assert used[name] == {graph for graph in stages if "int8" not in graph}, name
            quantized = name.replace("prior.", "int8.")
            assert used[quantized] == {graph for graph in stages if "int8" in graph}
            assert np.abs(file.read(quantized)).max() <= 63
            integers, weight = file.read(quantized).astype(np.float64), file.read(name).astype(np.float64).T
            scales = np.abs(weight).max(axis=0) / np.abs(integers).max(axis=0)
            assert np.array_equal(integers * scales, weight)


def test_graphs_are_dynamic_and_named(tiny_path: Path) -> None:
    for name, model in graphs(tiny_path).items():
        (entry,), (exit_,) = model.graph.input, model.graph.output
        assert (entry.name, exit_.name) == {"encoder": ("image", "tokens"), "decoder": ("tokens", "image")}.get(
            name.split(".")[0], ("tokens", "predictions")
        )
        dims = [dimension.dim_param for dimension in entry.type.tensor_type.shape.dim]
        assert all(dims[:3]), f"{name}: {dims}"  # batch, height and width
        assert model.opset_import[0].version >= 18


def test_no_tensor_has_more_dimensions_than_tensorrt_takes(tiny_path: Path) -> None:
    for file in tiny_path.glob("*.onnx"):
        inferred = onnx.shape_inference.infer_shapes(onnx.load(file), data_prop=True)
        ranks = {entry.name: len(entry.type.tensor_type.shape.dim) for entry in inferred.graph.value_info}
        assert len(ranks) > 20
        assert max(ranks.values()) <= 8, file.name


def test_graphs_hold_nothing_of_the_machine(tiny_path: Path) -> None:
    for path in tiny_path.glob("*.onnx"):
        data = path.read_bytes()
        for text in (b".py", b"/home", b"/root", b"site-packages", b"stack_trace"):
            assert text not in data, f"{path.name} holds {text!r}"


def test_a_wrong_trace_is_refused(tiny_path: Path, tmp_path: Path) -> None:
    """A graph whose weights differ from the module's must not pass the comparison."""
    tokenizer, trained = tiny_modules(0)
    for spec in trace.specs(tokenizer, trained.prior.freeze()):
        if spec.name in ("stage3", "decoder"):
            with torch.no_grad():
                next(iter(spec.module.parameters())).add_(0.5)
            with pytest.raises(trace.TraceError, match=spec.name):
                trace.compare(spec, str(tiny_path / f"{spec.name}.fp32.onnx"), [spec.example])


def test_a_graph_whose_numbers_leave_half_precision_is_left_out(tiny_path: Path, tmp_path: Path) -> None:
    tokenizer, trained = tiny_modules(0)
    (spec,) = (spec for spec in trace.specs(tokenizer, trained.prior.freeze()) if spec.name == "decoder")
    with torch.no_grad():
        tokenizer.decoder.layers[0].bias.fill_(torch.inf)  # the pixels are NaN, which equals nothing
    logged: list[str] = []
    for precision in ("fp16", "fp32"):
        shutil.copy(tiny_path / f"decoder.{precision}.onnx", tmp_path)
    shutil.copy(tiny_path / "weights.safetensors", tmp_path)
    path = tmp_path / "decoder.fp16.onnx"
    assert not bundle._agrees(spec, path, [spec.example], "fp16", logged.append)
    assert not path.exists()
    assert "left out decoder.fp16.onnx" in logged[-1]
    with pytest.raises(trace.TraceError, match="off by nan"):
        bundle._agrees(spec, tmp_path / "decoder.fp32.onnx", [spec.example], "fp32", logged.append)


def test_a_stage_of_one_layer_and_another_schedule_is_exact(tmp_path: Path) -> None:
    """One layer ends without shifted windows; here, it predicts half of a tile of 2x2."""
    torch.manual_seed(0)
    schedule = Schedule(2, (((0, 0),), ((1, 1),), ((0, 1), (1, 0))))
    prior = Prior(PriorConfig(codebook=16, width=16, layers=1, heads=2, window=8), schedule).freeze()
    grid = torch.randint(16, (2, 16, 24), dtype=torch.int32)
    dynamic = {0: ("batch", 1), 1: ("rows", 8), 2: ("columns", 8)}
    spec = trace.Spec("stage2", Stage(prior, 2), grid, "tokens", "logits", dynamic, len(prior.others))
    onnx.save(trace.trace(spec), tmp_path / "stage2.onnx")
    assert prove_file(tmp_path / "stage2.onnx", token_domain(prior.config.pad)).tightest.slack > 0
    trace.compare(spec, str(tmp_path / "stage2.onnx"), [grid, torch.randint(16, (1, 8, 8), dtype=torch.int32)])


def test_a_failed_export_leaves_nothing_behind(tmp_path: Path) -> None:
    tokenizer, _ = tiny_modules(0)
    other = TrainedPrior(
        Prior(PriorConfig(codebook=32, width=16, layers=1, heads=1, window=8), quincunx()), torch.ones(1024)
    )
    with pytest.raises(InputError, match="32 codewords"):
        write_bundle(tokenizer, other, tmp_path / "bundle", [], False, lambda text: None)
    trained = dataclasses.replace(tiny_modules(0)[1], codebook="another fingerprint")
    with pytest.raises(InputError, match="tokens of another codebook"):
        write_bundle(tokenizer, trained, tmp_path / "bundle", [], False, lambda text: None)
    tokenizer.quantizer.fitted.fill_(False)
    with pytest.raises(InputError, match="no codebook"):
        write_bundle(tokenizer, tiny_modules(0)[1], tmp_path / "bundle", [], False, lambda text: None)
    (tmp_path / "kept").mkdir()
    with pytest.raises(OutputError, match="--force"):
        write_bundle(*tiny_modules(0), tmp_path / "kept", [], False, lambda text: None)
    with pytest.raises(OutputError, match="not a bundle"):
        write_bundle(*tiny_modules(0), tmp_path / "kept", [], True, lambda text: None)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_the_prior_id_depends_on_what_decides_symbols() -> None:
    from uigc.runtime.bundle.prior_id import prior_id

    weights = [("w", np.array([0.5, -0.25], np.float32))]
    tables = {"t": np.array([1, 2], np.int32)}
    first = prior_id(weights, tables, {"layers": 1}, {"tile": 2})
    assert len(first) == 32
    assert first == prior_id([("w", weights[0][1].astype(np.float16))], tables, {"layers": 1}, {"tile": 2})
    others = [
        prior_id([("w", np.array([0.5, 0.25], np.float32))], tables, {"layers": 1}, {"tile": 2}),
        prior_id([("v", weights[0][1])], tables, {"layers": 1}, {"tile": 2}),
        prior_id(weights, {"t": np.array([1, 3], np.int32)}, {"layers": 1}, {"tile": 2}),
        prior_id(weights, tables, {"layers": 2}, {"tile": 2}),
        prior_id(weights, tables, {"layers": 1}, {"tile": 4}),
    ]
    assert len({first, *others}) == 6
    with pytest.raises(ValueError, match="not dyadic"):
        prior_id([("w", np.array([0.1], np.float32))], tables, {}, {})


def test_weights_are_stored_once_and_exactly() -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    store = WeightStore({"module.weight": matrix})
    assert store.add("graph.a", matrix) == ("module.weight", False)
    assert store.add("graph.b", matrix.T.copy()) == ("module.weight", True)
    assert store.add("graph.c", matrix + 1) == ("graph.c", False)
    large = np.zeros(SMALLEST_HALF, np.float32)
    assert compact(large).dtype == np.float16
    assert compact(large + np.float32(1 / 3)).dtype == np.float32
    assert compact(matrix).dtype == np.float32  # a cast would cost more


def test_checkpoints_load_as_saved(tmp_path: Path) -> None:
    tokenizer, trained = tiny_modules(8)
    save_tokenizer(tmp_path, tokenizer.state_dict(), tokenizer.config)
    save_prior(tmp_path, trained.prior.state_dict(), trained.prior, trained.mask_table)
    loaded = load_prior(tmp_path)
    assert loaded.prior.config == TINY_PRIOR
    assert torch.equal(loaded.mask_table, trained.mask_table)
    for name, value in trained.prior.state_dict().items():
        assert torch.equal(loaded.prior.state_dict()[name], value)
    assert load_tokenizer(tmp_path).config == tokenizer.config
    assert TokenizerConfig.from_json(json.loads(json.dumps(tokenizer.config.to_json()))) == tokenizer.config


def test_configurations_of_earlier_files_load() -> None:
    """Until decoders had widths of their own, `widths` were those of both networks."""
    earlier = json.loads((Path(__file__).parent / "earlier" / "bundle-unsealed.json").read_text())["tokenizer"]
    config = TokenizerConfig.from_json(earlier)
    assert config == TokenizerConfig(512, 12, (96, 192, 256), (1, 2, 3), (96, 192, 256), (2, 3, 4))
    assert (config.shuffle, TokenizerConfig().shuffle) == (4, 2)
    for wrong in ({"decoder_widths": (8, 8)}, {"decoder_blocks": (1, 1, 1)}, {"encoder_widths": (8, 8)}):
        with pytest.raises(InputError, match="blocks; give"):
            TokenizerConfig(**wrong)


def test_runs_of_earlier_shapes_load_and_become_bundles(tmp_path: Path, sample: np.ndarray) -> None:
    """With ``widths`` and ``blocks`` in their metadata, and a decoder whose finest stage is at a quarter."""
    tokenizer, trained = tiny_modules(6, QUARTER_TOKENIZER)
    save_tokenizer(tmp_path, tokenizer.state_dict(), tokenizer.config)
    path = tmp_path / "tokenizer.safetensors"
    earlier = tokenizer.config.to_metadata()
    earlier["widths"] = earlier.pop("encoder_widths")
    assert earlier.pop("decoder_widths") == earlier["widths"]
    save_file(load_file(path), path, {"tokenizer": json.dumps(earlier)})
    loaded = load_tokenizer(tmp_path)
    assert loaded.config == QUARTER_TOKENIZER
    for name, value in tokenizer.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    pixels = np.ascontiguousarray(sample[:70, :90])
    write_bundle(loaded, trained, tmp_path / "bundle", [pixels], False, lambda text: None)
    codec = Codec(tmp_path / "bundle", threads=1)
    data = codec.compress(pixels, "entire")
    tokens = torch.from_numpy(codec.decode_tokens(data)[None])
    with torch.no_grad():
        wanted = loaded.decoder(loaded.quantizer.look_up(tokens)).clamp(0, 1)[0] * 255
    back = codec.decompress(data)
    assert np.abs(back.transpose(2, 0, 1) - wanted.numpy()[:, :70, :90]).max() < 0.6


@pytest.mark.parametrize(("part", "limit"), [("encoder", 25e9), ("decoder", 40e9)])
def test_the_default_networks_keep_their_budget(part: str, limit: float) -> None:
    """Count the multiply-accumulates of the convolutions for a 768x512 image."""
    from uigc.export.modules.tokenizer import Tokenizer

    tokenizer = Tokenizer(TokenizerConfig())
    total = 0

    def count(module: torch.nn.Conv2d, inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    module = getattr(tokenizer, part)
    for child in module.modules():
        if isinstance(child, torch.nn.Conv2d):
            child.register_forward_hook(count)
    with torch.no_grad():  # an eighth of each side: the cost is linear in pixels
        module(torch.zeros(1, 3, 64, 96) if part == "encoder" else torch.zeros(1, 12, 4, 6))
    assert limit / 4 < total * 64 < limit


def test_the_decoder_is_local() -> None:
    """A change at one end does not reach the other end, so tiles with halos give the same pixels."""
    tokenizer, _ = tiny_modules(0)
    codewords = torch.randn(1, 4, 40, 8)
    changed = codewords.clone()
    changed[:, :, :2] += 1
    with torch.no_grad():
        before, after = tokenizer.decoder(codewords), tokenizer.decoder(changed)
    assert not torch.equal(before[:, :, :32], after[:, :, :32])
    assert torch.equal(before[:, :, -256:], after[:, :, -256:])
