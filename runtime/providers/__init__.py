"""Providers run the graphs; this is the contract for them and the way to find them (``docs/PROVIDERS.md``)."""

from uigc.runtime.providers.base import (
    DEFAULT,
    GROUP,
    OPTIMIZATIONS,
    Graph,
    Provider,
    ProviderOptions,
    available,
    check_device,
    check_options,
    find,
    loaded,
    names,
    own_device,
    select,
    takes_engines,
)

__all__ = [
    "DEFAULT",
    "GROUP",
    "OPTIMIZATIONS",
    "Graph",
    "Provider",
    "ProviderOptions",
    "available",
    "check_device",
    "check_options",
    "find",
    "loaded",
    "names",
    "own_device",
    "select",
    "takes_engines",
]
