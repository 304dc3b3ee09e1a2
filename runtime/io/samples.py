"""The sample photograph that is installed with the package."""

from __future__ import annotations

from pathlib import Path

SAMPLE = Path(__file__).parent.parent / "samples" / "coffee.webp"
"""A photograph of 600x400 pixels; ``samples/README.md`` names its source and licence."""
