"""Every image of a folder to a .uigc file beside it: ``python 02_many_files.py FOLDER``. Bad images stop no others."""

import sys
from pathlib import Path

from uigc import Codec, UigcError

paths = sorted(path for path in Path(sys.argv[1]).iterdir() if path.suffix in (".jpg", ".png", ".webp"))
written = 0

with Codec() as codec:
    # Images are opened when their turn comes, in order, and only what is in progress is held in memory.
    for path, outcome in zip(paths, codec.compress_many(paths, mask="edge_more:0.2"), strict=True):
        if isinstance(outcome, UigcError):
            print(f"{path.name}: {outcome}", file=sys.stderr)
        else:
            path.with_suffix(".uigc").write_bytes(outcome)
            written += len(outcome)

print(f"{len(paths)} images, {written} bytes")
