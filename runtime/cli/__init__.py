"""The command ``uigc`` (``docs/CLI.md``).

``main`` finds the subcommands and runs one of them; ``commands`` holds the runtime's own.
"""
