"""``python -m uigc.runtime.cli`` is the command ``uigc``."""

import sys

from uigc.runtime.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
