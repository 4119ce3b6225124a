"""WebP, of an animation the first frame (RFC 9649)."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import WebPImagePlugin

from cutaway.images.colour import MAX_PROFILE_BYTES
from cutaway.images.orientation import orientation_of_exif
from cutaway.images.raster import Canvas, Damaged, Raster


def is_webp(data: bytes) -> bool:
    """Whether the bytes are a RIFF container of WebP."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def read_webp(data: bytes, canvas: Canvas) -> Raster:
    """Takes a WebP apart."""
    chunks = _chunks(data)
    width, height = _size(chunks)
    canvas.check(width, height)
    image = WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    with image:
        if image.size != (width, height):
            raise Damaged(f"its size is {image.size} to one reader and {(width, height)} to another")
        # The codec always gives four channels; of an animation's first frame, what it leaves uncovered is transparent.
        image.rawmode = image._mode = "RGBA"
        image.load()
        pixels = np.asarray(image)
    exif, icc = chunks.get(b"EXIF"), chunks.get(b"ICCP")
    return Raster(
        pixels[:, :, :3],
        "rgb",
        pixels[:, :, 3],
        1 if exif is None else orientation_of_exif(exif),
        icc if icc is None or len(icc) <= MAX_PROFILE_BYTES else None,
    )


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """The first chunk of each name."""
    (size,) = struct.unpack_from("<I", data, 4)
    end = 8 + size
    if end > len(data):
        raise Damaged("it is truncated")
    chunks: dict[bytes, bytes] = {}
    position = 12
    while position + 8 <= end:
        name, length = data[position : position + 4], struct.unpack_from("<I", data, position + 4)[0]
        position += 8
        if position + length > end:
            raise Damaged("it is truncated")
        if name not in chunks:
            chunks[name] = data[position : position + length]
        position += length + length % 2
    return chunks


def _size(chunks: dict[bytes, bytes]) -> tuple[int, int]:
    """Width and height of the canvas, from whichever chunk holds them."""
    if extended := chunks.get(b"VP8X"):
        return (
            1 + int.from_bytes(extended[4:7], "little"),
            1 + int.from_bytes(extended[7:10], "little"),
        )
    if lossless := chunks.get(b"VP8L"):
        packed = int.from_bytes(lossless[1:5], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    if lossy := chunks.get(b"VP8 "):
        width, height = struct.unpack_from("<HH", lossy, 6)
        return width & 0x3FFF, height & 0x3FFF
    raise Damaged("it holds no picture")
