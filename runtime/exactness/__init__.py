"""The evidence for exactness: the integer reference, conformance cases, and the comparison (``docs/EXACTNESS.md``)."""
