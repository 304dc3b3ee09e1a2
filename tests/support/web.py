"""The decoder in JavaScript with its packages, in Node.js and Chromium; tests that need them are skipped elsewhere."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

from tests.support.paths import ROOT
from uigc.bench import browser

WEB = ROOT / "web"
PACKAGES = WEB / "node_modules"
INSTALL = ("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--prefer-offline")


def expect_npm() -> None:
    """Skip the test where Node.js is missing."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs Node.js and npm")


@functools.cache
def web() -> Path:
    """Return the folder ``web/`` after ``npm install``, or skip; once for all processes of pytest-xdist."""
    expect_npm()
    done_with = PACKAGES / ".package-lock.json"  # npm writes it at the end
    if done_with.exists():
        return WEB
    lock = Path(tempfile.gettempdir()) / f"uigc-web-{os.getuid() if hasattr(os, 'getuid') else 0}.lock"
    with FileLock(lock):
        if not done_with.exists():
            done = subprocess.run(INSTALL, cwd=WEB, capture_output=True, text=True, timeout=300)
            if done.returncode != 0:
                shutil.rmtree(PACKAGES, ignore_errors=True)
                pytest.skip(f"the npm packages cannot be had here: {(done.stderr.splitlines() or ['no reason'])[0]}")
    return WEB


def with_runtime(version: str, folder: Path) -> Path:
    """Install a version of onnxruntime-web in a folder, with the decoder; return ``answer.js`` there, or skip."""
    expect_npm()
    for name in ("uigc", "node"):
        shutil.copytree(WEB / name, folder / name)
    shutil.copy(WEB / "uigc.js", folder)
    package = json.loads((WEB / "package.json").read_text(encoding="utf-8"))
    package |= {"dependencies": {"onnxruntime-web": version}, "devDependencies": {}}
    (folder / "package.json").write_text(json.dumps(package), encoding="utf-8")
    try:
        done = subprocess.run(INSTALL, cwd=folder, capture_output=True, text=True, timeout=600)
        reason = (done.stderr.splitlines() or ["no reason"])[0] if done.returncode else ""
    except subprocess.TimeoutExpired:
        reason = "the download took more than 10 minutes"
    if reason:
        pytest.skip(f"onnxruntime-web {version} cannot be had here: {reason}")
    installed = json.loads((folder / "node_modules" / "onnxruntime-web" / "package.json").read_text(encoding="utf-8"))
    assert installed["version"] == version
    return folder / "node" / "answer.js"


def chromium() -> str:
    """Return the path of Chromium, or skip."""
    found = browser.chromium()
    if found is None:
        pytest.skip("needs Chromium")
    return found


def answer_command(bundle: Path, *limit: object) -> list[str]:
    """Return the command that answers requests about files with this bundle."""
    return ["node", str(web() / "node" / "answer.js"), str(bundle), *map(str, limit)]


def answers(bundle: Path, requests: list[str], *limit: object) -> tuple[list[str], list[str]]:
    """Return the answer to each request, and the sentences on standard error."""
    text = "".join(f"{request}\n" for request in requests)
    command = answer_command(bundle, *limit)
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr.splitlines()
