"""The command ``uigc`` (``docs/CLI.md``).

``main`` finds the subcommands and runs one; ``commands`` holds the runtime's own.
"""
