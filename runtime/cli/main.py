"""The command ``uigc``. Its subcommands are entry points of the group ``uigc.commands``, each a :class:`Command`.

Neither importing this module nor ``--help`` loads numpy or a provider.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points

from uigc.runtime.cli.command import Command
from uigc.runtime.environment import package_version
from uigc.runtime.errors import DependencyError, ExitCode, UigcError

GROUP = "uigc.commands"
_ORDER = (
    "compress", "decompress", "info", "doctor", "verify", "demo",
    "import-vqgan", "export", "calibrate", "build", "evaluate", "profile",
)  # fmt: skip


def _commands() -> dict[str, Command]:
    """Return the installed subcommands by name, in the order of the help text."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    known = [name for name in _ORDER if name in found]
    return {name: _load(found[name]) for name in [*known, *sorted(set(found) - set(known))]}


def _load(entry: EntryPoint) -> Command:
    """Load a command; one that cannot be imported fails with the reason when it is called, and breaks no other."""
    try:
        command: Command = entry.load()
        return command
    except ImportError as error:
        problem = DependencyError(f"The command {entry.name!r} cannot be loaded ({error}); reinstall its package.")

        def fail(arguments: argparse.Namespace) -> None:
            raise problem

        return Command(f"cannot be loaded: {error}", lambda parser: None, fail)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="uigc",
        description="Image codec for ultra-low bitrates: a photograph in about a kilobyte.",
        epilog="'uigc COMMAND --help' explains a command and its options.",
    )
    parser.add_argument("--version", action="version", version=f"uigc {package_version('uigc') or 'not installed'}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in _commands().items():
        subparser = subparsers.add_parser(name, help=command.help, description=command.help)
        command.configure(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code (see :class:`ExitCode`)."""
    parsed = build_parser().parse_args(arguments)
    try:
        parsed.run(parsed)
        if sys.stdout is not None:
            sys.stdout.flush()
    except UigcError as error:
        return _fail(error, error.exit_code, parsed.debug)
    except ModuleNotFoundError as error:
        missing = DependencyError(
            f"The package {error.name!r} is missing; install the extra of uigc that contains it (see 'uigc doctor')."
        )
        return _fail(missing, missing.exit_code, parsed.debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output has stopped
        return int(ExitCode.OUTPUT)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        text = f"Reading or writing failed ({error}); check the disk, the names and the permissions."
        return _fail(error, ExitCode.OUTPUT, parsed.debug, text)
    except MemoryError as error:
        text = "The image needs more memory than is available; scale it down."
        return _fail(error, ExitCode.TOO_LARGE, parsed.debug, text)
    except Exception as error:
        text = f"Unexpected {type(error).__name__}: {error}; run with 'uigc --debug' and report it."
        return _fail(error, ExitCode.INTERNAL, parsed.debug, text)
    return int(ExitCode.OK)


def _fail(error: BaseException, code: ExitCode, debug: bool, text: str | None = None) -> int:
    """Print one sentence, after the traceback if ``debug``, and return the exit code."""
    if debug:
        import traceback

        traceback.print_exception(error)
    print(f"uigc: {text or error}", file=sys.stderr)
    return int(code)
