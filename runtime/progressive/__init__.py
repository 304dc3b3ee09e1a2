"""Images from the first bytes of files, as far as these go."""

from uigc.runtime.progressive.decoder import PartialImage, ProgressiveDecoder, decompress_partial

__all__ = ["PartialImage", "ProgressiveDecoder", "decompress_partial"]
