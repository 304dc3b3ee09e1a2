"""The two TensorRT flavours behind one door.

Both have the same Python API; what only one of them has is asked for with ``hasattr``. The package is imported when a
backend is asked for, not before.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from uigc.runtime.errors import DependencyError, EngineError, UsageError

FLAVOURS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Name of a backend, which is that of its extra and its provider too, and the module behind it."""

REMEDY = "see docs/ENGINES.md for what it can do where"


@dataclass
class Log:
    """Collects TensorRT's messages; its functions return None and log why."""

    errors: list[str] = field(default_factory=list)

    def take(self) -> str:
        """Return the first line of the first error since the last call, for a sentence; forget all.

        One failure logs a chain of errors, of which the first names the cause and the last is the most general.
        """
        errors, self.errors = self.errors, []
        lines = [error.strip() for error in errors if error.strip()]
        return lines[0].splitlines()[0].rstrip(".") if lines else "it gave no reason"


@dataclass(frozen=True)
class Backend:
    """A flavour that is installed: its module, and a logger that keeps errors in ``log`` and prints nothing."""

    name: str
    trt: Any
    log: Log
    logger: Any

    @property
    def version(self) -> str:
        return str(self.trt.__version__)

    def checked(self, value: Any, what: str, remedy: str = REMEDY) -> Any:
        """Return ``value``; raises an :class:`EngineError` if it is None or False, which is how TensorRT fails."""
        reason = self.log.take()
        if value is None or value is False:
            raise EngineError(f"{self.name} {self.version} could not {what}: {reason}; {remedy}.")
        return value

    def made(self, make: Callable[[], Any], what: str, remedy: str = REMEDY) -> Any:
        """Return the result of ``make``, checked as :meth:`checked` does.

        The bindings raise where a constructor fails.
        """
        try:
            value = make()
        except (RuntimeError, TypeError, ValueError) as error:
            if not self.log.errors:
                self.log.errors.append(str(error))
            value = None
        return self.checked(value, what, remedy)

    def targets(self) -> dict[str, Any]:
        """Names like ``sm86`` of the GPUs that an engine can be built for ahead of time; none where it must be built on
        the GPU itself."""
        known = getattr(self.trt, "ComputeCapability", None)
        names = [name for name in dir(known) if name.startswith("SM")] if known is not None else []
        return {name.lower(): getattr(known, name) for name in names}

    def chosen_targets(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return those of :meth:`targets` that are asked for."""
        known = self.targets()
        unknown = [name for name in names if name not in known]
        if unknown:
            takes = ", ".join(known) or "none: it builds for the GPU it runs on, so leave --target out"
            raise UsageError(f"{self.name} {self.version} builds for no target {', '.join(unknown)}; it takes {takes}.")
        return {name: known[name] for name in names}


def missing(name: str) -> str | None:
    """Return one sentence if the package of that flavour is not installed, else None; nothing is imported."""
    module = FLAVOURS[name]
    if module in sys.modules or importlib.util.find_spec(module) is not None:
        return None
    return f"The package {module} is not installed; install it with: pip install 'uigc[{name}]'."


def find(name: str) -> Backend:
    """Return the backend of that name; the error names the extra to install if it is missing."""
    problem = missing(name)
    if problem:
        raise DependencyError(problem)
    try:
        trt = importlib.import_module(FLAVOURS[name])
    except (ImportError, OSError) as error:
        raise DependencyError(
            f"The package {FLAVOURS[name]} cannot be loaded ({error}); reinstall it with: pip install 'uigc[{name}]'."
        ) from None
    return _backend(name, trt)


@cache  # TensorRT keeps the first logger that it is given, and warns of others
def _backend(name: str, trt: Any) -> Backend:
    log = Log()
    return Backend(name, trt, log, _logger(trt, log))


def _logger(trt: Any, log: Log) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                log.errors.append(message)

    return Logger()
