"""The networks of a bundle at work: the staged prior, the pixel networks, and tiling (``docs/ARCHITECTURE.md``)."""
