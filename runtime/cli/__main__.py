"""``python -m uigc.runtime.cli`` is the command ``uigc``."""

from uigc.runtime.cli.main import program

if __name__ == "__main__":
    program()
