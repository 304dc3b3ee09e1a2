"""Draw the README's figure: the sample photograph, the same from a .uigc file, and the same as the smallest AVIF."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from uigc.runtime.arrays import Pixels
from uigc.runtime.codec import Codec
from uigc.runtime.io import image
from uigc.runtime.io.samples import SAMPLE

GAP, LABEL = 12, 44  # pixels between the images, and below them for the labels
FONT_SIZE = 22


def smallest_avif(pixels: Pixels) -> tuple[int, Pixels]:
    """Return the size in bytes of the smallest AVIF file that Pillow writes, and what it decodes to."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "AVIF", quality=0, speed=0)
    return len(buffer.getvalue()), image.read(buffer.getvalue())


def side_by_side(panels: list[tuple[str, Pixels]]) -> Image.Image:
    """Return images of one size in a row, each with its label below."""
    height, width = panels[0][1].shape[:2]
    sheet = Image.new("RGB", (len(panels) * (width + GAP) - GAP, height + LABEL), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    for index, (label, pixels) in enumerate(panels):
        left = index * (width + GAP)
        sheet.paste(Image.fromarray(pixels), (left, 0))
        draw.text((left + width / 2, height + LABEL / 2), label, fill="black", font=font, anchor="mm")
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.sample_picture", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/sample.webp"), help="image to write")
    output: Path = parser.parse_args().output
    pixels = image.read(SAMPLE.read_bytes())
    codec = Codec()
    data = codec.compress(pixels)
    avif_bytes, avif = smallest_avif(pixels)
    panels = [
        (f"photograph, {pixels.shape[1]}x{pixels.shape[0]}", pixels),
        (f"uigc, {len(data)} bytes", codec.decompress(data)),
        (f"AVIF at its smallest, {avif_bytes} bytes", np.asarray(avif)),
    ]
    side_by_side(panels).save(output, quality=90)
    print(f"{output}: uigc {len(data)} bytes, AVIF {avif_bytes} bytes")


if __name__ == "__main__":
    main()
