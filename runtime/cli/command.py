"""A subcommand of ``uigc``, as the entry points of the group ``uigc.commands`` name it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One subcommand and its line in the help text.

    ``configure`` adds its arguments to a parser; ``run`` does the work and raises a :class:`UigcError` if it fails.
    """

    help: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]
