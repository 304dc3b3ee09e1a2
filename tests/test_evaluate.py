"""The yardstick: what `uigc evaluate` reports is what the files hold."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.paths import outside
from uigc.bench import codecs, command
from uigc.bench.evaluate import FIGURES, Yardstick, means, measure, table, to_tensor
from uigc.bench.metrics import LPIPS, Networks
from uigc.bench.peers import Coded
from uigc.runtime.cli.failures import Failures
from uigc.runtime.cli.main import main
from uigc.runtime.codec import Codec
from uigc.runtime.errors import DependencyError, ExitCode, UsageError
from uigc.runtime.io import image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, sample: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("pictures")
    Image.fromarray(sample[:64, :96]).save(path / "a.png")
    Image.fromarray(sample[64:111, :70]).save(path / "b.webp", lossless=True)
    (path / "notes.txt").write_text("no image")
    return path


def evaluated(*arguments: object) -> Any:
    """The JSON of the command."""
    out = Path(str(arguments[arguments.index("--json") + 1]))
    assert main(["evaluate", *map(str, arguments), "--quiet"]) == 0
    return json.loads(out.read_text())


def test_figures_are_those_of_the_files(
    folder: Path, tiny: Codec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tiny.bundle.path
    result = evaluated(folder, "--bundle", bundle, "--threads", 1, "--json", tmp_path / "out.json")
    assert result["schema"] == 1
    assert result["data_set"] == {"name": folder.name, "pictures": 2}
    assert result["networks"] is None
    assert result["effort"] == 1
    assert [entry["setting"] for entry in result["entries"]] == ["entire", "edge", "edge_more"]
    for entry in result["entries"]:
        assert entry["codec"] == "uigc"
        assert [record["picture"] for record in entry["pictures"]] == ["a.png", "b.webp"]
        for record in entry["pictures"]:
            pixels = image.read((folder / record["picture"]).read_bytes())
            data = tiny.compress(pixels, entry["setting"])
            back = tiny.decompress(data).astype(float)
            wanted = 10 * math.log10(255**2 / np.square(back - pixels).mean())
            assert record["bytes"] == len(data)
            assert (record["height"], record["width"]) == pixels.shape[:2]
            assert math.isclose(record["bpp"], 8 * len(data) / pixels[..., 0].size, abs_tol=1e-6)
            assert math.isclose(record["psnr"], wanted, abs_tol=1e-3)
            assert record["lpips_alex"] is None
        assert entry["means"]["bytes"] == sum(record["bytes"] for record in entry["pictures"]) / 2
        assert entry["means"]["dists"] is None
    prior = result["prior"]
    assert prior["id"] == tiny.bundle.prior_id.hex()
    assert prior["fixed_bits_per_token"] == 4
    assert 0 < prior["words_used"] <= prior["words"] == 16
    assert len(prior["stage_bits_per_token"]) == 6
    shown = capsys.readouterr().out
    assert "edge_more" in shown
    assert "bits a token" in shown


def test_effort_is_that_of_every_setting_that_leaves_something_to_search_for(
    folder: Path, tiny: Codec, tmp_path: Path
) -> None:
    settings = ("entire", "edge_more:0.3", "edge_more:0+draw", "q50")
    chosen = [word for setting in settings for word in ("--setting", setting)]
    result = evaluated(folder, "--bundle", tiny.bundle.path, *chosen, "--effort", 4, "--json", tmp_path / "out.json")
    assert result["effort"] == 4
    pixels = image.read((folder / "a.png").read_bytes())
    rates = [{"mask": "entire"}, {"mask": "edge_more:0.3", "effort": 4}, {"mask": "edge_more:0+draw", "effort": 4}]
    files = [tiny.compress(pixels, **rate) for rate in (*rates, {"quality": 50, "effort": 4})]  # type: ignore[arg-type]
    for entry, data in zip(result["entries"], files, strict=True):
        back = tiny.decompress(data).astype(float)
        assert entry["pictures"][0]["bytes"] == len(data)
        assert math.isclose(
            entry["pictures"][0]["psnr"], 10 * math.log10(255**2 / np.square(back - pixels).mean()), abs_tol=1e-3
        )


def test_other_codecs_share_the_schema(folder: Path, tmp_path: Path) -> None:
    result = evaluated(folder, "--codec", "webp", "--setting", 5, "--setting", 80, "--json", tmp_path / "out.json")
    low, high = result["entries"]
    assert result["prior"] is None
    assert set(low) == {"codec", "version", "setting", "means", "patterns", "pictures"}
    assert low["means"]["bytes"] < high["means"]["bytes"]
    assert low["means"]["psnr"] < high["means"]["psnr"]
    assert (low["setting"], high["setting"]) == ("5", "80")


def vgg_distance(networks: Path, path: Path) -> float:
    """LPIPS-VGG of an image and its JPEG of quality 1, from the metric itself."""
    pixels = image.read(path.read_bytes())
    (coded,) = codecs.create("jpeg", ["1"], None).code(pixels)
    assert isinstance(coded, Coded)
    return float(LPIPS(Networks(networks), "vgg")(to_tensor(coded.pixels), to_tensor(pixels)))


def test_perceptual_figures(folder: Path) -> None:
    networks = outside("perceptual") / "nets.safetensors"
    yardstick = Yardstick(networks)
    paths = [folder / "a.png"]
    (poor, good), _ = measure(paths, codecs.create("jpeg", ["1", "95"], None), yardstick, Failures(""), quiet=True)
    assert yardstick.fingerprint is not None
    assert len(yardstick.fingerprint) == 64
    for name in ("lpips_alex", "lpips_vgg", "dists"):
        assert poor["means"][name] > 2 * good["means"][name] > 0
        assert f"{poor['means'][name]:.4f}" in table([poor])
    assert poor["means"]["lpips_vgg"] == pytest.approx(vgg_distance(networks, folder / "a.png"), abs=1e-4)
    head, row = table([good]).splitlines()
    assert [head[: row.index(f"{good['means'][name]:.4f}") + 6].split()[-1] for name in FIGURES[4:]] == [
        "LPIPS", "VGG", "DISTS",
    ]  # fmt: skip


def test_equal_images_have_a_finite_figure(sample: np.ndarray) -> None:
    record = Yardstick(None).measure("same", sample, Coded("all", b"12345678", sample))
    assert record.psnr == 100
    assert record.bytes == 8
    assert record.patterns == {"2": 1.0, "4": 1.0, "8": 1.0, "16": 1.0}
    assert "-" in table([{"codec": "x", "setting": "all", "means": means([record]), "patterns": None}])


def test_patterns_are_those_of_the_images_that_are_large_enough(sample: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(sample).save(tmp_path / "large.png")
    Image.fromarray(sample[:64, :64]).save(tmp_path / "small.png")
    (entry,), left_out = measure(
        [tmp_path / "large.png", tmp_path / "small.png"],
        codecs.create("jpeg", ["5"], None),
        Yardstick(None),
        Failures(""),
        quiet=True,
    )
    assert not left_out
    large, small = entry["pictures"]
    assert small["patterns"] is None
    assert entry["patterns"] == large["patterns"]
    assert set(large["patterns"]) == {"2", "4", "8", "16"}
    assert large["patterns"]["8"] != 1
    assert "weave 8" in table([entry])
    assert f"{large['patterns']['8']:.2f}" in table([entry])


def test_the_command_names_every_coder() -> None:
    assert codecs.NAMES == command._CODECS


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--mask", "none"], 2, "'none' is no setting of uigc"),
        (["--codec", "avif", "--setting", "edge"], 2, "numbers"),
        (["--codec", "avif", "--setting", "101"], 2, "0 to 100"),
        (["--networks", "absent.safetensors"], 3, "no file absent"),
    ],
)
def test_wrong_arguments(
    folder: Path, arguments: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(folder), *arguments]) == code
    assert text in capsys.readouterr().err


def test_wrong_folder_and_existing_output(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path)]) == 3
    (tmp_path / "out.json").write_text("kept")
    assert main(["evaluate", str(folder), "--codec", "webp", "--json", str(tmp_path / "out.json")]) == 4
    assert (tmp_path / "out.json").read_text() == "kept"
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize("options", [("evaluate", "."), ("evaluate", "--compare", "a", "b"), ("report", "a")])
def test_missing_packages_are_named_before_the_work(
    options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent, find = {"pytorch_msssim", "bjontegaard", "matplotlib"}, importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else find(name))
    assert main(options) == ExitCode.DEPENDENCY
    assert "pip install 'uigc[bench]'" in capsys.readouterr().err


def test_a_missing_plugin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(DependencyError, match="pillow-jxl-plugin"):
        codecs.create("jxl", None, None)
    with pytest.raises(UsageError, match="numbers"):
        codecs.create("webp", ["x"], None)


@pytest.mark.parametrize("codec", [["--codec", "webp", "--setting", "50"], ["--mask", "edge"]])
def test_one_bad_image_is_named_and_passed_over(
    folder: Path, tiny: Codec, tmp_path: Path, capsys: pytest.CaptureFixture[str], codec: list[str]
) -> None:
    for name in ("a.png", "b.webp"):
        shutil.copy(folder / name, tmp_path)
    (tmp_path / "aa.png").write_bytes((folder / "a.png").read_bytes()[:500])
    Image.new("RGBA", (30, 30)).save(tmp_path / "transparent.png")
    Image.new("RGB", (300, 300)).save(tmp_path / "z_large.png")
    out = tmp_path / "out.json"
    limit = ["--max-pixels", "80000"] if "--mask" in codec else []
    options = ["--bundle", str(tiny.bundle.path), "--json", str(out), "--quiet", *codec, *limit]
    assert main(["evaluate", str(tmp_path), *options]) == ExitCode.INPUT
    *errors, last = capsys.readouterr().err.splitlines()
    bad = ["aa.png", "transparent.png", "z_large.png"][: 3 if limit else 2]
    assert [line.split(": ")[1] for line in errors] == [str(tmp_path / name) for name in bad]
    assert last == (f"uigc: {len(bad)} of 5 files failed, for the reasons above; the figures are those of the others.")
    result = json.loads(out.read_text())
    good = [name for name in ("a.png", "b.webp", "z_large.png") if name not in bad]
    assert [each["picture"] for each in result["entries"][0]["pictures"]] == good
    assert result["data_set"]["pictures"] == len(good)


def test_only_bad_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    assert main(["evaluate", str(tmp_path), "--codec", "webp"]) == ExitCode.INPUT
    assert capsys.readouterr().out == ""


def test_a_rate_out_of_reach_is_left_out_and_its_images_are_not(
    tmp_path: Path, sample: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(sample[:96, :128]).save(tmp_path / "photo.png")
    Image.new("RGB", (640, 512), "teal").save(tmp_path / "plain.png")
    out = tmp_path / "out.json"
    jpeg = ["evaluate", str(tmp_path), "--codec", "jpeg", "--quiet", "--setting", "0.1bpp", "--json", str(out)]
    assert main([*jpeg, "--setting", "30"]) == 0
    (told,) = capsys.readouterr().err.splitlines()
    assert told == "uigc: 0.1bpp is left out: jpeg makes no file that small of photo.png; give a higher rate."
    result = json.loads(out.read_text())
    (entry,) = result["entries"]
    assert (entry["setting"], result["left_out"]) == ("30", {"0.1bpp": ["photo.png"]})
    assert [record["picture"] for record in entry["pictures"]] == ["photo.png", "plain.png"]
    assert result["data_set"]["pictures"] == 2
    assert main([*jpeg, "--force"]) == ExitCode.INPUT
    assert "No setting is left to be measured; give a higher rate." in capsys.readouterr().err
    assert json.loads(out.read_text()) == result
