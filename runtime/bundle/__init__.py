"""Bundles: the folder with the graphs, the weights and the manifest of one codec (``docs/BUNDLE.md``)."""

from uigc.runtime.bundle.bundle import Bundle, default_path
from uigc.runtime.bundle.manifest import is_stage

__all__ = ["Bundle", "default_path", "is_stage"]
