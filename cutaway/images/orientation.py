"""EXIF orientation: reading it, and turning pixels by it."""

from __future__ import annotations

import struct

import numpy as np

from cutaway.images.raster import Pixels

ORIENTATION = 0x0112

_SHORT, _LONG = 3, 4


def orientation_of_exif(exif: bytes) -> int:
    """The orientation, 1 to 8, in an EXIF block; 1 where it says none that makes sense.

    Only the first directory is read: the orientation of a thumbnail is not the picture's.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 10:
        return 1
    (directory,) = struct.unpack_from(f"{order}I", exif, 4)
    if directory + 2 > len(exif):
        return 1
    (num_entries,) = struct.unpack_from(f"{order}H", exif, directory)
    for position in range(directory + 2, min(directory + 2 + 12 * num_entries, len(exif) - 11), 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", exif, position)
        if tag == ORIENTATION and count == 1 and kind in (_SHORT, _LONG):
            (value,) = struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", exif, position + 8)
            return value if 1 <= value <= 8 else 1
    return 1


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turns and mirrors uint8 [H, W, C] as the EXIF orientation asks."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    # After the transposition 6 and 7 mirror the columns, 7 and 8 the rows.
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
