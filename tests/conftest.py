"""Shared fixtures. The tiny bundle is made by code, once a session; images outside the project are optional."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.reference_decoder import Model, decode
from uigc.export.modules.checkpoint import TrainedPrior, save_prior, save_tokenizer
from uigc.export.modules.prior import Prior, PriorConfig
from uigc.export.modules.tokenizer import Tokenizer, TokenizerConfig
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.manifest import CODER_TABLE, MASK_TABLE
from uigc.runtime.cli.main import main
from uigc.runtime.codec import Codec
from uigc.runtime.format.schedule import quincunx
from uigc.runtime.io import image
from uigc.runtime.io.samples import SAMPLE

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("UIGC_TEST_PICTURES", ROOT.parent / "shared"))
TINY_TOKENIZER = TokenizerConfig(16, 4, (8, 8, 16), (1, 1, 1), (1, 1, 1))
TINY_PRIOR = PriorConfig(codebook=16, width=16, layers=2, heads=2, expansion=2, window=8)

Run = Callable[..., subprocess.CompletedProcess[bytes]]


def outside(part: str) -> Path:
    """A folder of images that are not part of the project; skips the test where it is absent."""
    path = SHARED / part
    if not path.exists():
        pytest.skip(f"the images in {part} are not part of the project; UIGC_TEST_PICTURES names their folder")
    return path


def tiny_modules(seed: int) -> tuple[Tokenizer, TrainedPrior]:
    torch.manual_seed(seed)
    tokenizer = Tokenizer(TINY_TOKENIZER).eval()
    tokenizer.quantizer.fitted.fill_(True)
    prior = Prior(TINY_PRIOR, quincunx())
    torch.nn.init.normal_(prior.head.weight, std=TINY_PRIOR.width**-0.5)  # as of one that has learned
    for block in prior.blocks:
        torch.nn.init.normal_(block.attention.scores.weight, std=0.5)
        torch.nn.init.normal_(block.attention.qkv.bias.weight, std=0.2)
        torch.nn.init.normal_(block.up.bias.weight, std=0.2)
    table = torch.from_numpy(np.random.default_rng(seed).integers(64, 65472, 1024)).int()
    return tokenizer, TrainedPrior(prior, table)


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle exported by the command from a checkpoint, as users do it."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer, trained = tiny_modules(0)
    save_tokenizer(folder, tokenizer.state_dict(), tokenizer.config)
    save_prior(folder, trained.prior.state_dict(), trained.prior, trained.mask_table)
    assert main(["export", str(folder), "-o", str(folder / "bundle"), "--quiet"]) == 0
    return folder / "bundle"


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> Codec:
    return Codec(Bundle.load(tiny_path), threads=1)


def reference_grid(codec: Codec, data: bytes) -> list[list[int]]:
    """The grid of a file by the decoder that was written from the format's page alone."""

    def logits(stage: int, grid: list[list[int]]) -> list[list[int]]:
        rows: list[list[int]] = codec.prior.load(stage)(np.array([grid], dtype=np.int32))[0].tolist()
        return rows

    bundle = codec.bundle
    tables = bundle.table(CODER_TABLE).tolist(), bundle.table(MASK_TABLE).tolist()
    model = Model(logits, *tables, bundle.codebook, bundle.window, bundle.unknown, bundle.pad)
    return decode(data, model)


@pytest.fixture(scope="session")
def sample() -> np.ndarray:
    return image.read(SAMPLE.read_bytes())


@pytest.fixture(scope="session")
def kodak() -> list[Path]:
    paths = sorted(outside("kodak").glob("kodim*.png"))
    assert len(paths) == 24
    return paths


@pytest.fixture
def uigc(tmp_path: Path) -> Run:
    """Run the installed command in an empty folder."""

    def run(*arguments: object, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "uigc.runtime.cli", *map(str, arguments)]
        return subprocess.run(command, input=data, capture_output=True, cwd=tmp_path, timeout=300)

    return run
