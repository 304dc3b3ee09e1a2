"""Where the time of a decode goes, by stage: ``python 04_profile.py photo.webp``."""

import sys
from collections import Counter

from PIL import Image

from uigc import Codec
from uigc.runtime.spans import Recorder, recording

codec = Codec()
data = codec.compress(Image.open(sys.argv[1]))
codec.decompress(data)  # loads the graphs

with recording(Recorder()) as recorder:
    codec.decompress(data)

milliseconds: Counter[str] = Counter()
for span in recorder.spans:
    name = span.name if span.stage is None else f"stage {span.stage}: {span.name}"
    milliseconds[name] += span.own / 1e6  # nanoseconds that lie in no span inside it
for name, value in milliseconds.most_common(8):
    print(f"{name:24}{value:8.2f} ms")
