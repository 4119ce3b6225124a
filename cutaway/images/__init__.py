"""Any uploaded bytes or file -> RGB pixels, safely: the only decoder. Training, page, API and command line all use it.

Each container is taken apart here and checked against the limits first; PIL's codecs see only what makes up the pixels
of the first picture. So neither metadata nor PIL's global switches can change a pixel, raise a warning or eat memory.
"""

from cutaway.images.decoding import EXTENSIONS, Limits, decode, encode_png, read_bytes
from cutaway.images.raster import Pixels

__all__ = ["EXTENSIONS", "Limits", "Pixels", "decode", "encode_png", "read_bytes"]
