"""BMP (Windows bitmap), uncompressed."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import BmpImagePlugin

from cutaway.images.raster import Canvas, Damaged, Raster, from_palette, grey, run_codec

SIGNATURE = b"BM"

_RUN_LENGTH = {1, 2}


def read_bmp(data: bytes, canvas: Canvas) -> Raster:
    """Takes a BMP apart."""
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size >= 40 and struct.unpack_from("<I", data, 30)[0] in _RUN_LENGTH:
        # A few bytes of a run-length code can stand for gigabytes, and hardly anyone writes it.
        raise Damaged("run-length compressed BMP is not supported")
    with BmpImagePlugin.BmpImageFile(io.BytesIO(data)) as image:
        width, height = image.size
        canvas.check(width, height)
        codec, _, offset, args = image.tile[0]
        mode, palette = image.mode, image.palette
    decoded = run_codec(mode, width, height, data[offset:], codec, args)
    if mode == "P":
        assert palette is not None
        stored = np.frombuffer(bytes(palette.palette), dtype=np.uint8)
        per_color = 4 if palette.rawmode == "BGRX" else 3
        colors = stored[: len(stored) // per_color * per_color].reshape(-1, per_color)[:, 2::-1]
        return Raster(from_palette(decoded.astype(np.uint8, copy=False), colors.tobytes()), "rgb")
    if mode in ("1", "L"):
        return Raster(grey(decoded.astype(np.uint8) * np.uint8(255 if mode == "1" else 1)), "grey")
    pixels = decoded.astype(np.uint8, copy=False)
    return Raster(pixels[:, :, :3], "rgb", pixels[:, :, 3] if mode == "RGBA" else None)
