"""Completion of commands, options and their values in a shell, by the package ``argcomplete``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

REQUEST = "_ARGCOMPLETE"  # the environment variable by which a shell asks for completions


def answer(build_parser: Callable[[], argparse.ArgumentParser]) -> None:
    """Print the completions that the shell asks for and end the process; do nothing if it asks for none."""
    if REQUEST not in os.environ:
        return
    try:
        import argcomplete
    except ImportError:
        sys.exit(1)  # without a word: it would end up among what the user is typing
    parser = build_parser()
    for each in _parsers(parser):
        for action in each._actions:
            if action.dest in _VALUES and action.choices is None:
                action.completer = _Values(action.dest)  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options=False)


class _Values:
    """Lists the values of an option, looked up only when this option is completed."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, **_: Any) -> Iterable[str]:
        return _VALUES[self._name]()


def _providers() -> Iterable[str]:
    from uigc.runtime import providers

    return providers.names()


def _masks() -> Iterable[str]:
    from uigc.runtime.format.mask_mode import MaskMode

    return [mode.label for mode in MaskMode]


def _formats() -> Iterable[str]:
    from uigc.runtime.io.image_outputs import OUTPUTS

    return [suffix[1:] for suffix in OUTPUTS]


_VALUES = {"provider": _providers, "mask": _masks, "setting": _masks, "format": _formats}


def _parsers(parser: argparse.ArgumentParser) -> Iterable[argparse.ArgumentParser]:
    """Yield a parser and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()
