"""A graph of a library whose errors all become the provider's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from uigc.runtime.errors import ProviderError, UigcError
from uigc.runtime.providers.base import Graph


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Guarded(Graph):
    """A graph whose errors become a :class:`ProviderError` with the first line that ``told`` finds in them."""

    def __init__(self, run: Graph, name: str, told: Callable[[Exception], str] = first_line) -> None:
        self._run, self._name, self._told = run, name, told

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        try:
            return self._run(value)
        except UigcError:
            raise
        except Exception as error:  # libraries raise a dozen unrelated types
            raise ProviderError(
                f"The provider {self._name!r} failed on an input of {value.shape}: {self._told(error)}; "
                "if memory ran out, scale the image down."
            ) from error

    def close(self) -> None:
        self._run.close()
