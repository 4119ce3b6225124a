"""JPEG, of a multi-picture file the first (ITU-T T.81)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from cutaway.images.orientation import orientation_of_exif
from cutaway.images.raster import Canvas, Damaged, Raster, grey, run_codec

SIGNATURE = b"\xff\xd8\xff"

# A progressive file may repeat scans over the whole picture at the cost of a few bytes each.
MAX_SCANS = 64

_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_RESTARTS = range(0xD0, 0xD8)
_FRAMES = range(0xC0, 0xD0)
_NOT_FRAMES = {0xC4, 0xC8, 0xCC}  # Huffman tables, reserved, arithmetic conditioning
_DECODABLE_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_TABLES = {0xC4, 0xCC, 0xDB, 0xDD}  # DHT, DAC, DQT, DRI
_BLOCK = 2**20
_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE


def read_jpeg(data: bytes, canvas: Canvas) -> Raster:
    """Takes a JPEG apart: what the codec needs goes on to it, the rest of the metadata does not."""
    kept = [b"\xff\xd8"]
    frame: bytes | None = None
    exif: bytes | None = None
    profile_parts: dict[int, bytes] = {}
    position = 2
    while True:
        marker, start = _next_marker(data, position)
        if marker in (_SOI, _TEM) or marker in _RESTARTS:
            position = start
            continue
        body, position = _segment(data, start)
        if marker == _SOS:
            break
        if marker in _FRAMES and marker not in _NOT_FRAMES:
            if frame is not None or marker not in _DECODABLE_FRAMES or len(body) < 6:
                raise Damaged("it is a lossless or hierarchical JPEG" if frame is None else "it has two frames")
            frame = body
            canvas.check(*reversed(struct.unpack_from(">HH", body, 1)))
        elif marker == _APP1 and body.startswith(b"Exif\0\0") and exif is None:
            exif = body[6:]
        elif marker == _APP2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile_parts.setdefault(body[12], body[13:])
        needed = (marker == _APP0 and body.startswith(b"JFIF")) or (marker == _APP14 and body.startswith(b"Adobe"))
        if marker in _TABLES or marker in _FRAMES or needed:
            kept.append(bytes((0xFF, marker)) + data[start:position])
    if frame is None:
        raise Damaged("it has no frame header")
    kept.append(b"\xff\xda" + data[start : _end_of_picture(data, position)])
    precision, height, width, channels = struct.unpack_from(">BHHB", frame)
    if precision != 8 or channels not in (1, 3, 4):
        raise Damaged(f"it has {channels} channels of {precision} bits")
    # Four channels are stored inverted, as Adobe does it; PIL assumes the same.
    mode, raw_mode = {1: ("L", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK;I")}[channels]
    decoded = run_codec(mode, width, height, b"".join(kept), "jpeg", (raw_mode, "")).astype(np.uint8, copy=False)
    return Raster(
        grey(decoded) if channels == 1 else decoded,
        {1: "grey", 3: "rgb", 4: "cmyk"}[channels],  # type: ignore[arg-type]
        orientation=1 if exif is None else orientation_of_exif(exif),
        icc=_profile(profile_parts),
    )


def _next_marker(data: bytes, position: int) -> tuple[int, int]:
    """The marker at or after `position`, and where its segment starts; bytes that are no marker are skipped."""
    while True:
        position = data.find(b"\xff", position)
        if position < 0:
            raise Damaged("it is truncated")
        while position < len(data) and data[position] == 0xFF:
            position += 1
        if position >= len(data):
            raise Damaged("it is truncated")
        if data[position] != 0:
            return data[position], position + 1


def _segment(data: bytes, start: int) -> tuple[bytes, int]:
    """The body of the segment whose length stands at `start`, and where it ends."""
    if start + 2 > len(data):
        raise Damaged("it is truncated")
    (length,) = struct.unpack_from(">H", data, start)
    end = start + length
    if length < 2 or end > len(data):
        raise Damaged("it is truncated")
    return data[start + 2 : end], end


def _end_of_picture(data: bytes, position: int) -> int:
    """Where the picture ends, from the start of its first scan's data; other pictures or a video may follow."""
    num_scans = 1
    for start in _markers_in_scans(data, position):
        if start < position + 2:  # within the segment before
            continue
        marker, position = data[start - 1], start
        if marker == _EOI:
            return position
        if marker == _SOS:
            num_scans += 1
            if num_scans > MAX_SCANS:
                raise Damaged(f"it has more than {MAX_SCANS} scans")
        if marker >= 0xC0 and marker != _SOI:
            _, position = _segment(data, position)
    raise Damaged("it is truncated")


def _markers_in_scans(data: bytes, position: int) -> Iterator[int]:
    """Where each marker from `position` on ends: what follows FF, but the stuffed 00, a restart, or a filling FF.

    Bytes within segments may look like one.
    """
    for begin in range(position, len(data) - 1, _BLOCK):
        block = np.frombuffer(data, np.uint8, min(_BLOCK + 1, len(data) - begin), begin)
        behind = np.flatnonzero(block[:-1] == 0xFF) + 1
        values = block[behind]
        marks = (values != 0) & (values != 0xFF) & ((values < _RESTARTS.start) | (values >= _RESTARTS.stop))
        yield from (begin + 1 + behind[marks]).tolist()


def _profile(parts: dict[int, bytes]) -> bytes | None:
    """The profile from its numbered parts, each with the number of parts in front; None where one is missing."""
    if (
        not parts
        or any(part[0] != len(parts) for part in parts.values())
        or set(parts) != set(range(1, len(parts) + 1))
    ):
        return None
    return b"".join(parts[number][1:] for number in sorted(parts))
