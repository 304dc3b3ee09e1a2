"""Bundles: the folder with the graphs, the weights and the manifest of one codec (``docs/BUNDLE.md``)."""

from uigc.runtime.bundle.bundle import Bundle, default_path

__all__ = ["Bundle", "default_path"]
