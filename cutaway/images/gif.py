"""GIF, its first frame (GIF89a specification)."""

from __future__ import annotations

import struct

import numpy as np

from cutaway.images.raster import Canvas, Damaged, Raster, from_palette, run_codec

SIGNATURES = (b"GIF87a", b"GIF89a")

_EXTENSION, _FRAME, _TRAILER = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL = 0xF9
_GREY_RAMP = bytes(np.repeat(np.arange(256, dtype=np.uint8), 3))


def read_gif(data: bytes, canvas: Canvas) -> Raster:
    """Takes a GIF apart. What the first frame leaves of the screen uncovered is transparent, as in browsers."""
    screen_width, screen_height, flags = struct.unpack_from("<HHB", data, 6)
    canvas.check(max(screen_width, 1), max(screen_height, 1))
    palette, position = _color_table(data, 13, flags)
    transparent: int | None = None
    while True:
        kind = data[position]
        if kind == _EXTENSION:
            label, size = data[position + 1], data[position + 2]
            if label == _GRAPHIC_CONTROL and size >= 4:
                transparent = data[position + 6] if data[position + 3] & 1 else None
            position = _after_blocks(data, position + 2)
        elif kind == _FRAME:
            break
        elif kind == _TRAILER:
            raise Damaged("it holds no picture")
        else:
            position += 1
    left, top, width, height, flags = struct.unpack_from("<HHHHB", data, position + 1)
    screen_width, screen_height = max(screen_width, left + width), max(screen_height, top + height)
    canvas.check(width, height)
    canvas.check(screen_width, screen_height)
    own_palette, position = _color_table(data, position + 10, flags)
    bits = data[position]
    decoded = run_codec("L", width, height, data[position + 1 :], "gif", (bits, (flags >> 6) & 1, -1))
    indices = decoded.astype(np.uint8, copy=False)
    colors = from_palette(indices, own_palette or palette or _GREY_RAMP)
    opacity = np.full(indices.shape, 255, dtype=np.uint8)
    if transparent is not None:
        opacity[indices == transparent] = 0
    if (width, height) == (screen_width, screen_height):
        return Raster(colors, "rgb", None if transparent is None else opacity)
    samples = np.zeros((screen_height, screen_width, 3), dtype=np.uint8)
    alpha = np.zeros((screen_height, screen_width), dtype=np.uint8)
    samples[top : top + height, left : left + width] = colors
    alpha[top : top + height, left : left + width] = opacity
    return Raster(samples, "rgb", alpha)


def _color_table(data: bytes, position: int, flags: int) -> tuple[bytes, int]:
    """The colour table that `flags` announce at `position`, empty where they announce none, and where it ends."""
    if not flags & 0x80:
        return b"", position
    end = position + (3 << ((flags & 7) + 1))
    if end > len(data):
        raise Damaged("it is truncated")
    return data[position:end], end


def _after_blocks(data: bytes, position: int) -> int:
    while (size := data[position]) != 0:
        position += 1 + size
    return position + 1
