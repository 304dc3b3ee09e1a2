"""The page of `uigc report`: what it holds, and what headless Chromium makes of it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.paths import ROOT
from tests.support.web import chromium, web
from uigc.bench.figures import QUALITY, Point, frontier, read, read_all
from uigc.bench.peers import Pillow
from uigc.bench.report import plots
from uigc.bench.report.making import anchors
from uigc.runtime.cli.main import main
from uigc.runtime.codec import Codec
from uigc.runtime.errors import InputError
from uigc.runtime.io import image

LPIPS, DISTS, _, MS_SSIM, PSNR = QUALITY
WIDTH, HEIGHT = 192, 176


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, sample: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("pictures")
    Image.fromarray(sample[:HEIGHT, :WIDTH]).save(path / "a&b.png")
    return path


def evaluated(folder: Path, out: Path, *arguments: object) -> Path:
    assert main(["evaluate", str(folder), *map(str, arguments), "--json", str(out), "--quiet"]) == 0
    return out


@pytest.fixture(scope="module")
def figures(folder: Path, tiny: Codec, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Ours and two peers, as their files of figures."""
    out = tmp_path_factory.mktemp("figures")
    return [
        evaluated(folder, out / "ours.json", "--bundle", tiny.bundle.path, "--threads", 1),
        evaluated(folder, out / "jpeg.json", "--codec", "jpeg", "--setting", 5, "--setting", "1/2:20"),
        evaluated(folder, out / "webp.json", "--codec", "webp", "--setting", 1, "--setting", 30),
    ]


@pytest.fixture(scope="module")
def page(figures: list[Path], folder: Path, tiny: Codec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "report.html"
    options = ["--images", folder, "--bundle", tiny.bundle.path, "--threads", 1, "--peer", "webp", "--size", 330]
    assert main(["report", *map(str, [*figures, *options]), "-o", str(out), "--quiet"]) == 0
    return out


def test_the_page_is_complete(page: Path) -> None:
    """It holds the figures, and neither a link to anything outside nor a name that is not escaped."""
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"""(?:src|href)=["'](?!data:)""", text) == []
    assert "url(" not in text
    assert "a&amp;b" in text
    assert "a&b" not in text
    assert text.count("data:image/webp;base64,") == 3
    assert "1/2:20" in text
    assert "uigc against the others" in text
    assert re.search(r"WebP, wins</th><td>1, 0\.\d+ bpp</td><td>1 of 1</td>", text)
    assert all(anchor["source"] in text for anchor in anchors())


def test_the_peer_has_equal_or_fewer_bytes(page: Path, folder: Path, tiny: Codec) -> None:
    text = page.read_text(encoding="utf-8")
    ours, peer = (int(size) for size in re.findall(r'<th scope="row">\w+</th><td>(\d+)</td>', text))
    pixels = image.read((folder / "a&b.png").read_bytes())
    assert ours == len(tiny.compress(pixels, size=330))
    found = Pillow("webp", []).within(pixels, ours)
    assert found is not None
    assert peer == len(found.data) <= ours


def test_a_peer_without_so_small_a_file_is_said(figures: list[Path], folder: Path, tiny: Codec, tmp_path: Path) -> None:
    options = [
        "--images",
        folder,
        "--bundle",
        tiny.bundle.path,
        "--threads",
        1,
        "--peer",
        "jpeg",
        "--mask",
        "edge_more:0",
    ]
    out = tmp_path / "report.html"
    assert main(["report", *map(str, [*figures, *options]), "-o", str(out), "--quiet"]) == 0
    assert "no smaller file was found" in out.read_text(encoding="utf-8")


def visit(page: Path, folder: Path) -> dict[str, Any]:
    """Open the page, use its slider, and return what it shows; screenshots lie in the folder."""
    command = ["node", web() / "test" / "report.js", chromium(), page.as_uri(), folder]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_in_chromium(page: Path, tmp_path: Path) -> None:
    found = visit(page, tmp_path)
    assert (found["state"], found["complaints"], found["requests"]) == ("done", [], 1)  # the page itself
    assert found["images"] == [[WIDTH, HEIGHT]] * 3
    assert found["plots"] == [MS_SSIM.label, PSNR.label]  # no networks, no LPIPS and no DISTS
    stars = sum(figure.name in anchor for anchor in anchors() for figure in (MS_SSIM, PSNR))
    assert (found["curves"], found["anchors"]) == (6, stars)
    assert not found["wide"]
    assert found["narrow"]
    assert found["before"]["left"] == "inset(0px 50% 0px 0px)"
    assert found["before"]["right"] == "inset(0px 0px 0px 50%)"
    assert found["after"]["left"] == "inset(0px 40% 0px 0px)"
    assert found["after"]["right"] == "inset(0px 0px 0px 60%)"
    assert found["after"]["text"] == "60 % uigc, 40 % WebP"
    assert found["exchanged"]["text"] == "60 % WebP, 40 % uigc"
    assert (found["after"]["shown"], found["row"]["shown"]) == (2, 3)
    assert found["dark"] == "rgb(20, 22, 26)"
    assert all((tmp_path / f"{name}.png").stat().st_size > 1000 for name in ("light", "dark", "row"))


def test_the_frontier_leaves_out_what_is_beaten() -> None:
    points = [Point("a", 0.02, 0.3), Point("b", 0.01, 0.5), Point("c", 0.015, 0.5), Point("d", 0.01, 0.6)]
    assert [point.setting for point in frontier(points, LPIPS)] == ["b", "a"]
    assert [point.setting for point in frontier(points, PSNR)] == ["d"]


def test_places_of_points() -> None:
    """Equal factors of the rate are equal distances; better values of PSNR are higher up."""
    axes = plots.Axes.around([Point("a", 0.01, 20), Point("b", 0.1, 30)])
    assert axes.x(0.02) - axes.x(0.01) == pytest.approx(axes.x(0.08) - axes.x(0.04))
    assert plots.LEFT < axes.x(0.01) < axes.x(0.1) < plots.WIDTH - plots.RIGHT
    assert plots.TOP < axes.y(30) < axes.y(20) < plots.HEIGHT - plots.BOTTOM
    assert plots.rate_ticks(0.009, 0.06) == [0.01, 0.02, 0.05]
    assert plots.value_ticks(0.21, 0.52) == [0.3, 0.4, 0.5]
    single = plots.plot(LPIPS, [plots.Series("x", 0, [Point("a", 0.01, 0.0)])], [])
    assert "nan" not in single


def test_anchors_have_a_source() -> None:
    for anchor in anchors():
        assert {"label", "bpp", "source", "note"} < set(anchor)
        assert any(figure.name in anchor for figure in QUALITY)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "no entries"),
        ('{"schema": 2, "entries": [{}]}', "schema 2, and 1 is read"),
        ('{"schema": 1, "entries": [{"codec": "x"}]}', "lacks figures"),
    ],
)
def test_files_that_are_no_figures(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read(path)


def test_files_that_do_not_belong_together(figures: list[Path], folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "absent.json")
    assert [each.label for each in read_all([figures[1], figures[2]])] == ["JPEG", "WebP"]
    assert [each.label for each in read_all([figures[1], figures[1]])] == ["JPEG (jpeg)"] * 2
    result = json.loads(figures[1].read_text())
    result["entries"][0]["pictures"][0]["picture"] = "other.png"
    (tmp_path / "other.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match="measure all codecs on one folder"):
        read_all([figures[0], tmp_path / "other.json"])


def test_images_without_figures(figures: list[Path], sample: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(sample[:32, :32]).save(tmp_path / "strange.png")
    assert main(["report", str(figures[0]), "--images", str(tmp_path), "-o", str(tmp_path / "x.html")]) == 3
    assert not (tmp_path / "x.html").exists()


def test_the_page_of_the_documentation_is_made_of_the_committed_figures(tmp_path: Path) -> None:
    """``docs/EVALUATION.md`` has the command; whoever changes the page or the figures makes it anew."""
    figures = [
        ROOT / "bench" / "results" / f"kodak-rates{codec}.json"
        for codec in ("", "-avif", "-jxl", "-webp", "-heic", "-jpeg")
    ]
    out = tmp_path / "kodak.html"
    assert main(["report", *map(str, figures), "-o", str(out), "--quiet"]) == 0
    assert out.read_bytes() == (ROOT / "docs" / "kodak.html").read_bytes()
