"""PNG, of an APNG the default picture (PNG specification, third edition)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from cutaway.images.colour import MAX_PROFILE_BYTES
from cutaway.images.orientation import orientation_of_exif
from cutaway.images.raster import Canvas, Damaged, Pixels, Raster, eight_bits, from_palette, grey, run_codec

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
# (colour type, bits) -> PIL's mode and raw mode. PIL reduces 16-bit colour to the upper eight bits by itself.
_MODES = {
    (_GREY, 1): ("1", "1"),
    (_GREY, 2): ("L", "L;2"),
    (_GREY, 4): ("L", "L;4"),
    (_GREY, 8): ("L", "L"),
    (_GREY, 16): ("I;16", "I;16B"),
    (_RGB, 8): ("RGB", "RGB"),
    (_RGB, 16): ("RGB", "RGB;16B"),
    (_PALETTE, 1): ("P", "P;1"),
    (_PALETTE, 2): ("P", "P;2"),
    (_PALETTE, 4): ("P", "P;4"),
    (_PALETTE, 8): ("P", "P"),
    (_GREY_ALPHA, 8): ("LA", "LA"),
    (_GREY_ALPHA, 16): ("RGBA", "LA;16B"),
    (_RGB_ALPHA, 8): ("RGBA", "RGBA"),
    (_RGB_ALPHA, 16): ("RGBA", "RGBA;16B"),
}
_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_USED = _CRITICAL | {b"tRNS", b"iCCP", b"eXIf"}


def read_png(data: bytes, canvas: Canvas) -> Raster:
    """Takes a PNG apart."""
    parts: dict[bytes, bytes] = {}
    compressed = []
    for kind, body in _chunks(data):
        if kind == b"IDAT":
            compressed.append(body)
        elif kind not in parts:
            parts[kind] = body
        if kind == b"IHDR" and len(parts) == 1:
            canvas.check(*struct.unpack(">II", body[:8]))
    width, height, bits, color, compression, filtering, interlace = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    if (color, bits) not in _MODES or compression or filtering or interlace > 1:
        raise Damaged(f"its header has colour type {color} with {bits} bits")
    mode, raw_mode = _MODES[color, bits]
    decoded = run_codec(mode, width, height, b"".join(compressed), "zip", (raw_mode, interlace))
    exif, icc = parts.get(b"eXIf"), parts.get(b"iCCP")
    samples, alpha = _samples(decoded, color, bits, parts.get(b"PLTE", b""), parts.get(b"tRNS"))
    return Raster(
        samples,
        "grey" if color in (_GREY, _GREY_ALPHA) else "rgb",
        alpha,
        1 if exif is None else orientation_of_exif(exif),
        None if icc is None else _profile(icc),
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and body of each chunk that matters, up to IEND, with their checksums verified."""
    position = len(SIGNATURE)
    if data[position + 4 : position + 8] != b"IHDR":
        raise Damaged("it does not start with its header")
    while True:
        if position + 12 > len(data):
            raise Damaged("it is truncated")
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        end = position + 8 + length
        if end + 4 > len(data):
            raise Damaged("it is truncated")
        if kind in _USED:
            if zlib.crc32(memoryview(data)[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
                raise Damaged(f"the checksum of its {kind.decode()} chunk does not match")
            yield kind, data[position + 8 : end]
        elif not kind[0] & 0x20:
            raise Damaged(f"it has an unknown critical chunk {kind!r}")
        if kind == b"IEND":
            return
        position = end + 4


def _samples(
    decoded: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
    color: int,
    bits: int,
    palette: bytes,
    transparency: bytes | None,
) -> tuple[Pixels, Pixels | None]:
    """Samples [H, W, C] and alpha [H, W] of what the codec gave; `transparency` is the body of tRNS."""
    if color == _PALETTE:
        if not palette:
            raise Damaged("it has no palette")
        indices = decoded.astype(np.uint8)
        table = np.full(256, 255, dtype=np.uint8)
        opacities = np.frombuffer((transparency or b"")[:256], dtype=np.uint8)
        table[: len(opacities)] = opacities
        return from_palette(indices, palette), table[indices] if transparency else None
    if color == _GREY:
        levels = decoded.astype(np.uint16) * np.uint16(255 if bits == 1 else 1)
        key = None
        if transparency is not None and len(transparency) >= 2:
            value = struct.unpack_from(">H", transparency)[0] & (2**bits - 1)
            # The codec has stretched 1, 2 and 4 bits to eight.
            key = levels == (value if bits >= 8 else value * 255 // (2**bits - 1))
        return grey(eight_bits(levels) if bits == 16 else levels.astype(np.uint8)), _opaque_but(key)
    pixels = decoded.astype(np.uint8, copy=False)
    if color == _RGB:
        key = None
        if transparency is not None and len(transparency) >= 6:
            # Of 16 bits the upper eight are left to compare.
            triple = np.array(struct.unpack_from(">HHH", transparency)) >> (bits - 8)
            key = (pixels == (triple & 255).astype(np.uint8)).all(axis=2)
        return pixels, _opaque_but(key)
    channels = 1 if color == _GREY_ALPHA else 3
    return pixels[:, :, :channels], pixels[:, :, -1]


def _opaque_but(transparent: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None) -> Pixels | None:
    return None if transparent is None else np.where(transparent, np.uint8(0), np.uint8(255))


def _profile(chunk: bytes) -> bytes | None:
    """The profile inside an iCCP chunk; None where it is broken or unreasonably large."""
    _, _, rest = chunk.partition(b"\0")
    try:
        profile = zlib.decompressobj().decompress(rest[1:], MAX_PROFILE_BYTES + 1)
    except zlib.error:
        return None
    return profile if len(profile) <= MAX_PROFILE_BYTES else None
