"""The file format in integers: header, schedule, mask, range coder and regeneration (``docs/FORMAT.md``).

Nothing here depends on a network, a provider or a bundle.
"""
