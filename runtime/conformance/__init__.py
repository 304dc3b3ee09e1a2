"""The conformance kit: files, grids, logits and refusals that any decoder is tested with (``docs/CONFORMANCE.md``)."""
