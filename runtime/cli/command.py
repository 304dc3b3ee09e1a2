"""What an entry point of the group ``uigc.commands`` names: one subcommand of ``uigc``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """``configure`` adds arguments to a parser; ``run`` takes the parsed ones, prints, raises :class:`UigcError`."""

    help: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]
