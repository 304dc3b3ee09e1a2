"""The public face: ``from uigc import ...``, light until a name is used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.metadata import version

import pytest

import uigc


def test_members_are_what_their_homes_define() -> None:
    assert sorted(uigc.__all__) == uigc.__all__
    for name, home in uigc._HOMES.items():
        assert getattr(uigc, name) is getattr(import_module(home), name)
    assert uigc.__version__ == version("uigc")
    assert {*uigc._HOMES, "__version__"} == set(uigc.__all__) <= set(dir(uigc))


def test_nothing_else_is_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Kodec'"):
        _ = uigc.Kodec


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import uigc, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "PIL", "constriction", "onnxruntime", "argparse"} & set(loaded)
    assert not [name for name in loaded if name.startswith("uigc.")]
