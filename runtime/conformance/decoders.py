"""Somebody's decoder: a command that is started for each input, or once, and asked line by line."""

from __future__ import annotations

import os
import queue
import shlex
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

from uigc.runtime.conformance.answers import read
from uigc.runtime.errors import InputError, UsageError

_LONGEST = 1 << 24  # characters of an answer that are read


class Decoder:
    """A command. ``ask`` returns its answer, or what it did instead of answering."""

    def __init__(self, command: str, once: str, seconds: float, values: Mapping[str, object]) -> None:
        """``once``: the placeholder whose presence means a process for each input; ``values``: other placeholders."""
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"The command {command!r} cannot be read ({error}); quote it properly.") from None
        if not words:
            raise UsageError("The command of the decoder is empty; give one.")
        self._words, self._seconds, self._values = words, seconds, values
        self._each = f"{{{once}}}" in command
        self._process: subprocess.Popen[str] | None = None
        self._reader = threading.Thread()
        self._lines: queue.Queue[str] = queue.Queue()
        self._answered = 0  # requests, by the process that runs

    def ask(self, request: str, values: Mapping[str, object]) -> str:
        """Return the answer to a request; ``values`` replace placeholders if each request has a process of its own."""
        return self._run(values) if self._each else self._converse(request)

    def close(self) -> None:
        """End the process, if there is one, and those that it started."""
        if self._process is None:
            return
        process, self._process, self._answered = self._process, None, 0
        _kill(process)
        process.wait()
        if process.stdin is not None:
            with suppress(OSError):  # what it never read
                process.stdin.close()
        self._reader.join(1)  # longer only if somebody else has its output open
        if process.stdout is not None and not self._reader.is_alive():
            process.stdout.close()

    def _command(self, values: Mapping[str, object]) -> list[str]:
        words = self._words
        for name, value in {**self._values, **values}.items():
            words = [word.replace(f"{{{name}}}", str(value)) for word in words]
        return words

    def _run(self, values: Mapping[str, object]) -> str:
        command = self._command(values)
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise _not_started(command, error) from None
        with process:
            try:
                printed, _ = process.communicate(timeout=self._seconds)
            except subprocess.TimeoutExpired:
                _kill(process)
                return f"took more than {self._seconds:g} seconds"
        return read(process.returncode, printed[:_LONGEST].decode("utf-8", "replace"))

    def _converse(self, request: str) -> str:
        process, answered = self._started(), self._answered
        assert process.stdin is not None
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            line = self._lines.get(timeout=self._seconds)
        except queue.Empty:
            self.close()
            return f"took more than {self._seconds:g} seconds"
        except OSError:
            line = ""
        if line.endswith("\n"):
            self._answered += 1
            return line.strip()
        try:
            code = process.wait(self._seconds)
        except subprocess.TimeoutExpired:
            return "closed its streams instead of answering"
        finally:
            self.close()  # the next request has a new process: a crash is the failure of one input
        if answered and code == 0:  # after its last answer, perhaps, which is no fault: a new one tells
            return self._converse(request)
        return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code} instead of answering"

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            command = self._command({})
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    encoding="utf-8",
                    errors="replace",
                    start_new_session=True,
                )
            except OSError as error:
                raise _not_started(command, error) from None
            self._lines = queue.Queue()
            self._reader = threading.Thread(target=_pass_on, args=(self._process.stdout, self._lines), daemon=True)
            self._reader.start()
        return self._process


def _kill(process: subprocess.Popen[Any]) -> None:
    """Kill a process and the others of its group."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _pass_on(stream: IO[str], lines: queue.Queue[str]) -> None:
    """Put the lines of a stream into a queue, and an empty one at its end."""
    try:
        while line := stream.readline(_LONGEST):
            lines.put(line)
    except ValueError:  # closed in the meantime
        pass
    lines.put("")


def _not_started(command: list[str], error: OSError) -> InputError:
    return InputError(f"{command[0]} cannot be started ({error.strerror}); check the command.")
