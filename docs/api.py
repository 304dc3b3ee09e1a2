"""Write API.md from the docstrings of the public names: ``python docs/api.py``."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import uigc
from uigc import pillow
from uigc.runtime import errors, progressive, providers, shortcuts, spans
from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import Codec
from uigc.runtime.format import bitstream
from uigc.runtime.format.mask import Mask
from uigc.runtime.format.mask_mode import MaskMode
from uigc.runtime.rate_control import Rate
from uigc.runtime.token_codec import Encoded

PAGE = Path(__file__).parent / "API.md"
INTRODUCTION = """# Python interface

This page is the reference of the public names, made from their docstrings by `python docs/api.py`. Those that
`uigc` itself has (`compress`, `decompress`, `decompress_partial`, `ProgressiveDecoder`, `PartialImage`, `info`,
`read_header`, `Codec`, `Bundle`, `Mask`, `ExitCode`, `UigcError`, `__version__`) are loaded on first use; the
others are imported from the modules that are stated with them. Arrays are numpy arrays; their names are those of
`runtime/arrays.py`.
"""
SECTIONS: dict[str, list[Any]] = {
    "In one call": [shortcuts.compress, shortcuts.decompress, shortcuts.info, bitstream.read_header, bitstream.Header],
    "The codec": [Codec, Encoded],
    "Files that were cut": [
        progressive.decompress_partial,
        progressive.ProgressiveDecoder,
        progressive.PartialImage,
    ],
    "Bundles and masks": [Bundle, Mask, MaskMode, Rate],
    "Providers": [providers.Provider, providers.Graph, providers.ProviderOptions, providers.find, providers.available],
    "Pillow": [pillow.configure, pillow.UigcImageFile],
    "Times": [spans.Recorder, spans.recording, spans.Span, spans.Timed],
}
MADE_BY_OTHERS = (MaskMode, pillow.UigcImageFile)  # classes whose instances nobody makes


def signature(value: Any) -> str:
    """Return the parameters of a function or class as one writes them, without ``self``."""
    written, starred = [], False
    for name, parameter in inspect.signature(value).parameters.items():
        if name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            written.append("*")
            starred = True
        stars, default = "**" * (parameter.kind is parameter.VAR_KEYWORD), parameter.default
        shown = default.__name__ if inspect.isfunction(default) else repr(default)
        written.append(f"{stars}{name}" if default is parameter.empty else f"{name}={shown}")
    return f"({', '.join(written)})"


def described(value: Any) -> str:
    text = textwrap.dedent(inspect.getdoc(value) or "").replace("``", "`").strip()
    return re.sub(r":(?:class|meth|func|data|mod|attr):`~?([^`]+)`", lambda found: f"`{found[1].split('.')[-1]}`", text)


def members(kind: type) -> Iterator[str]:
    """Yield the values of an enumeration, and the public methods and properties that a class documents itself."""
    if issubclass(kind, Enum):
        yield f"* **values**: {', '.join(f'`{kind.__name__}.{each.name}`' for each in kind)}"
    for name, value in vars(kind).items():
        if name.startswith("_"):
            continue
        inner = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if isinstance(inner, property) and inner.__doc__:
            yield f"* **`{name}`**: {' '.join(described(inner).split())}"
        elif inspect.isfunction(inner) and inner.__doc__:
            yield f"* **`{name}{signature(inner)}`**\n\n{textwrap.indent(described(inner), '  ')}\n"


def entry(value: Any) -> str:
    takes = "" if value in MADE_BY_OTHERS else signature(value)
    home = "uigc" if value.__name__ in uigc.__all__ else value.__module__
    lines = [f"### {value.__name__}", "", "```", f"from {home} import {value.__name__}"]
    lines += [f"{value.__name__}{takes}"] * bool(takes) + ["```", ""]
    lines += [described(value), ""]
    if isinstance(value, type):
        lines += [*members(value), ""]
    return "\n".join(lines)


def error_table() -> str:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.UigcError)]
    rows = [f"| `{kind.__name__}` | {int(kind.exit_code)} | {' '.join(described(kind).split())} |" for kind in kinds]
    return "\n".join(["| `from uigc.runtime.errors import ...` | exit code | |", "|---|---|---|", *rows])


def page() -> str:
    parts = [INTRODUCTION]
    for title, values in SECTIONS.items():
        parts += [f"## {title}\n", *map(entry, values)]
    parts += ["## Errors\n", error_table(), ""]
    return "\n".join(line.rstrip() for line in "\n".join(parts).splitlines()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
