"""The list of what ``engines/`` uses of TensorRT is what its code names, no more and no less."""

from __future__ import annotations

from tests.support.tensorrt_calls import BOTH, RTX, named_in_the_code

CHAINS, WORDS = named_in_the_code()
LISTED = {kind: {*BOTH.get(kind, ()), *RTX.get(kind, ())} for kind in {*BOTH, *RTX}}
OF_THE_MODULE = {"nptype", "__version__"}


def test_whatever_the_code_names_is_listed() -> None:
    assert ("LayerType", "CONVOLUTION") in CHAINS
    for kind, *members in CHAINS:
        assert kind in LISTED or kind in OF_THE_MODULE, kind
        if members and kind in LISTED and members[0] != "__init__":
            assert members[0] in LISTED[kind], f"trt.{kind}.{members[0]}"


def test_whatever_is_listed_is_named_by_the_code() -> None:
    for kind, names in LISTED.items():
        for name in names:
            assert name in WORDS, f"{kind}.{name} is listed, and engines/ does not use it"
