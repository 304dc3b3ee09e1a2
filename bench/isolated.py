"""Measurements in a process of their own, so that the peak of its memory is theirs."""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from uigc.runtime.errors import UigcError

RSS_UNIT = 1 if platform.system() == "Darwin" else 1024  # bytes, of ru_maxrss


def peak_bytes() -> int:
    """Return the peak memory of this process in bytes."""
    status = Path("/proc/self/status")  # VmHWM, because Linux's ru_maxrss includes memory from before exec()
    if status.is_file():
        (line,) = (line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT


def run_isolated(module: str, argv: Iterable[object], doing: str) -> dict[str, Any]:
    """Run ``python -m module`` in its own process and return the JSON object on its last line of output.

    ``doing`` names the task in error messages.
    """
    done = subprocess.run([sys.executable, "-m", module, *map(str, argv)], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise UigcError(f"{doing} ended with {done.returncode}, for the reason above.")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def codec_arguments(argv: list[str], own: Iterable[str], lists: Iterable[str] = ()) -> list[str]:
    """Return the arguments that choose the codec: ``argv`` without the options ``own``, of a value, and ``lists``."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in own:
        parser.add_argument(name)
    for name in lists:
        parser.add_argument(name, nargs="+")
    return parser.parse_known_args(argv)[1]
