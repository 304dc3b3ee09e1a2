"""Files of a size that is asked for, or of a quality: the encoder's search for the blocks that are sent whole."""

from uigc.runtime.rate_control.encoding import encode
from uigc.runtime.rate_control.rate import Rate, choose, explained, parse, shortfall

__all__ = ["Rate", "choose", "encode", "explained", "parse", "shortfall"]
