# PYTHON_ARGCOMPLETE_OK: shells may ask this program for completions (completion.py)
"""The command ``uigc``. Its subcommands are entry points of the group ``uigc.commands``, each a :class:`Command`.

Neither importing this module nor ``--help`` loads numpy or a provider.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from uigc.runtime.cli.command import Command
from uigc.runtime.cli.completion import answer
from uigc.runtime.entry_points import EntryPoint, installed, named
from uigc.runtime.environment import package_version
from uigc.runtime.errors import DependencyError, ExitCode, UigcError
from uigc.runtime.io import streams

GROUP = "uigc.commands"
INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended
_ORDER = (
    "compress", "decompress", "info", "doctor", "verify", "conformance", "demo",
    "import-vqgan", "export", "calibrate", "build", "evaluate", "report", "profile",
)  # fmt: skip


def _commands(called: str | None) -> dict[str, Command]:
    """Return the command of that name alone; if there is none, all installed ones, in the order of the help text."""
    entry = named(GROUP, called) if called else None
    if called and entry:
        return {called: _load(entry)}
    found = installed(GROUP)
    known = [name for name in _ORDER if name in found]
    return {name: _load(found[name]) for name in [*known, *sorted(set(found) - set(known))]}


def _load(entry: EntryPoint) -> Command:
    """Load a command; one that cannot be loaded fails with the reason when it is called, and breaks no other."""
    try:
        command = entry.load()
        if not isinstance(command, Command):
            raise ImportError(f"it is a {type(command).__name__} and no Command")
        return command
    except (AttributeError, ImportError) as error:
        problem = DependencyError(f"The command {entry.name!r} cannot be loaded ({error}); reinstall its package.")

        def fail(arguments: argparse.Namespace) -> None:
            raise problem

        return Command(f"cannot be loaded: {error}", lambda parser: None, fail)


class _Parser(argparse.ArgumentParser):
    """A parser whose help and version are results."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is not sys.stdout:
            super()._print_message(message, file)
        elif message:  # raises an error if it cannot be written, unlike argparse
            streams.show(message.rstrip("\n"))
            streams.flush()


class _Version(argparse.Action):
    """Prints the version, which is looked up only then, and ends the program."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        parser._print_message(f"uigc {package_version('uigc') or 'not installed'}\n", sys.stdout)
        parser.exit()


class _CommandParser(_Parser):
    """A parser of one command, which takes options before, between and after its names."""

    _parsing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._parsing:  # by the parser of intermixed arguments, which calls this for its two passes
            return super().parse_known_args(args, namespace)
        self._parsing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._parsing = False


def _called(arguments: Sequence[str]) -> str | None:
    """Return the name of the command in arguments; None if something stands before it that may ask for all commands."""
    first = next((each for each in arguments if each not in ("-v", "-vv", "--verbose", "--debug")), "-")
    return None if first.startswith("-") else first


def build_parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Build the parser of all commands, or, which takes less time, of the one that ``arguments`` call."""
    parser = _Parser(
        prog="uigc",
        description="Image codec for ultra-low bitrates: a photograph in about a kilobyte.",
        epilog="'uigc COMMAND --help' explains a command and its options.",
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, dest=argparse.SUPPRESS, help="show program's version number and exit"
    )
    _add_everywhere(parser, verbose=0, debug=False)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_CommandParser)
    for name, command in _commands(_called(arguments)).items():
        subparser = subparsers.add_parser(name, help=command.help, description=command.help)
        command.configure(subparser)
        _add_everywhere(subparser, argparse.SUPPRESS, argparse.SUPPRESS)
        subparser.set_defaults(run=command.run)
    parser.set_defaults(run=lambda arguments: streams.show(parser.format_help().rstrip()))
    return parser


def _add_everywhere(parser: argparse.ArgumentParser, verbose: Any, debug: Any) -> None:
    """Add the options that stand before a command or behind it, with their defaults; suppressed ones change nothing."""
    text = "say what is done, twice for every detail; of doctor: all findings"
    parser.add_argument("-v", "--verbose", action="count", default=verbose, help=text)
    text = "show the traceback of an error, and every detail"
    parser.add_argument("--debug", action="store_true", default=debug, help=text)


def program() -> None:
    """Run ``uigc`` as a program: standard output is for results alone, and Ctrl-C ends it at once."""
    try:
        if not sys.warnoptions:
            warnings.simplefilter("ignore")  # Python's, of libraries; ours are log messages
        answer(build_parser)
        streams.take()
        code = main()
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == INTERRUPTED:
        os._exit(code)  # waits for no thread; outputs have no name before they are complete
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code (see :class:`ExitCode`)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    try:
        parsed = build_parser(arguments).parse_args(arguments)
        from uigc.runtime.cli.logs import on_standard_error

        verbose = 2 if parsed.debug else parsed.verbose
        with on_standard_error(verbose, quiet=getattr(parsed, "quiet", False)):
            parsed.run(parsed)
        streams.flush()
    except UigcError as error:
        return _fail(error, error.exit_code, debug)
    except ModuleNotFoundError as error:
        missing = DependencyError(
            f"The package {error.name!r} is missing; install the extra of uigc that contains it (see 'uigc doctor')."
        )
        return _fail(missing, missing.exit_code, debug)
    except BrokenPipeError:
        streams.discard()
        return int(ExitCode.OUTPUT)
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        text = f"Reading or writing failed ({error}); check the disk, the names and the permissions."
        return _fail(error, ExitCode.OUTPUT, debug, text)
    except MemoryError as error:
        text = "The image needs more memory than is available; scale it down."
        return _fail(error, ExitCode.TOO_LARGE, debug, text)
    except Exception as error:
        text = f"Unexpected {type(error).__name__}: {error}; run with 'uigc --debug' and report it."
        return _fail(error, ExitCode.INTERNAL, debug, text)
    return int(ExitCode.OK)


def _fail(error: BaseException, code: ExitCode, debug: bool, text: str | None = None) -> int:
    """Print one sentence, after the traceback if ``debug``, and return the exit code."""
    if debug:
        import traceback

        streams.note("".join(traceback.format_exception(error)).rstrip())
    streams.note(f"uigc: {text or error}")
    return int(code)
