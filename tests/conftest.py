"""Shared fixtures. The tiny bundle is made by code, once a session; images outside the project are optional."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from tests.support.earlier_bundles import as_version_2
from tests.support.paths import outside
from tests.support.tiny import tiny_modules
from uigc.export.modules.checkpoint import save_prior, save_tokenizer
from uigc.runtime.bundle import Bundle
from uigc.runtime.cli.main import main
from uigc.runtime.codec import Codec
from uigc.runtime.io import image
from uigc.runtime.io.samples import SAMPLE
from uigc.runtime.providers import compiled_models
from uigc.runtime.tuning_cache import IGNORE

os.environ[IGNORE] = "0"  # what was measured on this machine must not change what the tests see

Run = Callable[..., subprocess.CompletedProcess[bytes]]


# Files whose tests take longest, in the order in which they start: none may begin when all others are done.
SLOWEST = ("test_kodak.py", "test_vqgan.py", "test_training.py", "test_readme.py", "test_verify.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: SLOWEST.index(item.path.name) if item.path.name in SLOWEST else len(SLOWEST))


@pytest.fixture(scope="session")
def exported_path(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A bundle exported by the command from a checkpoint, as users do it; once for all processes of pytest-xdist."""
    if not hasattr(request.config, "workerinput"):
        return _export_tiny(tmp_path_factory.mktemp("tiny"))
    folder = tmp_path_factory.getbasetemp().parent / "tiny"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            folder.mkdir()
            _export_tiny(folder)
    return folder / "bundle"


@pytest.fixture(scope="session")
def tiny_path(exported_path: Path) -> Path:
    return exported_path


@pytest.fixture(scope="session")
def earlier_path(exported_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same bundle as version 2 had it: images are planes of floats."""
    return as_version_2(exported_path, tmp_path_factory.mktemp("earlier") / "bundle")


def _export_tiny(folder: Path) -> Path:
    tokenizer, trained = tiny_modules(0)
    save_tokenizer(folder, tokenizer.state_dict(), tokenizer.config)
    save_prior(folder, trained.prior.state_dict(), trained.prior, trained.mask_table)
    assert main(["export", str(folder), "-o", str(folder / "bundle"), "--quiet"]) == 0
    return folder / "bundle"


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> Codec:
    return Codec(Bundle.load(tiny_path), threads=1)


@pytest.fixture(scope="session")
def sample() -> np.ndarray:
    return image.read(SAMPLE.read_bytes())


@pytest.fixture(scope="session")
def kodak() -> list[Path]:
    paths = sorted(outside("kodak").glob("kodim*.png"))
    assert len(paths) == 24
    return paths


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of compiled models, which this test has for itself."""
    monkeypatch.setattr(compiled_models, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache" / compiled_models.FOLDER


@pytest.fixture
def uigc(tmp_path: Path) -> Run:
    """Run the installed command in an empty folder."""

    def run(*arguments: object, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "uigc.runtime.cli", *map(str, arguments)]
        return subprocess.run(command, input=data, capture_output=True, cwd=tmp_path, timeout=300)

    return run
