"""A photograph to a file of about a kilobyte, and back: ``python 01_roundtrip.py photo.webp``."""

import sys
from pathlib import Path

from PIL import Image

from uigc import Codec

photo = Path(sys.argv[1])
codec = Codec()  # the default bundle, on the CPU

data = codec.compress(Image.open(photo))
photo.with_suffix(".uigc").write_bytes(data)
# Now available: a file that decodes to the same tokens on every machine.

pixels = codec.decompress(data)  # uint8 (height, width, 3), sRGB
Image.fromarray(pixels).save(photo.with_suffix(".png"))
# Now available: the image as PNG. Another machine may round its pixels differently, never its tokens.

height, width = pixels.shape[:2]
print(f"{width}x{height}: {len(data)} bytes, {8 * len(data) / (width * height):.4f} bits per pixel")
