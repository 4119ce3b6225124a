"""TIFF and BigTIFF, the first page (TIFF revision 6.0)."""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image, TiffImagePlugin

from cutaway.images.colour import MAX_PROFILE_BYTES
from cutaway.images.orientation import ORIENTATION
from cutaway.images.raster import Canvas, Damaged, Pixels, Raster, eight_bits, grey

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIP_OFFSETS, _CHANNELS, _ROWS_PER_STRIP, _STRIP_SIZES, _PLANAR = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES = 322, 323, 324, 325
_SAMPLE_FORMAT, _JPEG_TABLES, _SUBSAMPLING, _ICC = 339, 347, 530, 34675
# What the codecs need besides: predictor, colour map, extra samples, the constants of YCbCr.
_KEPT = {
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _STRIP_OFFSETS, _CHANNELS, _ROWS_PER_STRIP),
    *(_STRIP_SIZES, _PLANAR, 317, 320, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES, 338),
    *(_SAMPLE_FORMAT, _JPEG_TABLES, 529, _SUBSAMPLING, 531, 532),
}
_SCALARS = _KEPT - {_BITS, _STRIP_OFFSETS, _STRIP_SIZES, 320, _TILE_OFFSETS, _TILE_SIZES, 338, _SAMPLE_FORMAT}
_SCALARS -= {_JPEG_TABLES, 529, _SUBSAMPLING, 532}
_LONG = 4
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MAX_TAG_BYTES = 2**19
_JPEG = 7
_COMPRESSIONS = {1, 5, _JPEG, 8, 32773, 32946}  # none, LZW, JPEG, deflate, PackBits, deflate
# libtiff takes damaged fax data for whole and leaves what it did not write as it found it in memory: the pixels would
# differ from run to run, and might show what else the process holds.
_FAX = {2, 3, 4}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR = 0, 1, 2, 6
# Tiles are usually of 128 to 1024 pixels; a larger one is allowed where the picture is as large.
_MAX_TILE_PIXELS = 2**22


def read_tiff(data: bytes, canvas: Canvas) -> Raster:
    """Takes the first page apart and has it decoded with no other tag than the codec needs."""
    page = _Page.first(data)
    width, height = page.number(_WIDTH), page.number(_HEIGHT)
    canvas.check(width, height)
    compression, photometric = page.number(_COMPRESSION, 1), page.number(_PHOTOMETRIC, 0)
    if compression in _FAX:
        raise Damaged("TIFF with fax compression is not supported, because damage in it goes unnoticed")
    if compression not in _COMPRESSIONS:
        raise Damaged(f"TIFF compression {compression} is not supported")
    bits = page.numbers(_BITS, (1,))
    if max(bits) > 16 or set(page.numbers(_SAMPLE_FORMAT, (1,))) != {1}:
        raise Damaged("its samples are signed, floating-point or wider than 16 bits, so their white is unknown")
    _check_storage(page, width, height)
    # PIL would not turn more than eight bits over; _raster does.
    replaced = {_PHOTOMETRIC: _BLACK_IS_ZERO} if photometric == _WHITE_IS_ZERO and bits[0] > 8 else {}
    luma_and_chroma = photometric == _YCBCR and compression != _JPEG and page.number(_CHANNELS, 1) == 3
    if luma_and_chroma:
        if page.numbers(_SUBSAMPLING, (2, 2)) != (1, 1):
            raise Damaged("YCbCr TIFF with subsampled colours is supported with JPEG compression only")
        replaced[_PHOTOMETRIC] = _RGB
    image = _decoded(page.reduced(replaced), width, height, len(data))
    icc = page.payload(_ICC)
    orientation = page.numbers(ORIENTATION, (1,))[0]
    raster = _raster(image, bits[0], photometric, luma_and_chroma)
    return Raster(
        raster.samples,
        raster.space,
        raster.alpha,
        orientation if 1 <= orientation <= 8 else 1,
        icc if icc is not None and len(icc) <= MAX_PROFILE_BYTES else None,
    )


@dataclass(frozen=True)
class _Entry:
    kind: int
    count: int
    raw: bytes
    start: int
    size: int


@dataclass(frozen=True)
class _Page:
    """The first directory of a file; of a tag given twice the first holds."""

    data: bytes
    order: str
    big: bool
    entries: dict[int, _Entry]

    @classmethod
    def first(cls, data: bytes) -> _Page:
        order = "<" if data[:2] == b"II" else ">"
        big = data[2:4] in (b"+\0", b"\0+")
        (start,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
        (num_entries,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, start)
        length, inline = (20, 8) if big else (12, 4)
        start += 8 if big else 2
        if start + length * num_entries > len(data) or num_entries > 65535:
            raise Damaged("it is truncated")
        entries: dict[int, _Entry] = {}
        for position in range(start, start + length * num_entries, length):
            tag, kind, count = struct.unpack_from(f"{order}HH{'Q' if big else 'I'}", data, position)
            size = _TYPE_SIZES.get(kind, 0) * count
            place = position + length - inline
            if size > inline:
                (place,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, place)
            entries.setdefault(tag, _Entry(kind, count, data[position : position + length], place, size))
        return cls(data, order, big, entries)

    def payload(self, tag: int) -> bytes | None:
        """The bytes of a tag, or None where it is missing or lies outside the file."""
        entry = self.entries.get(tag)
        if entry is None or entry.size == 0 or entry.start + entry.size > len(self.data):
            return None
        return self.data[entry.start : entry.start + entry.size]

    def numbers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        entry = self.entries.get(tag)
        if entry is None:
            return default
        if entry.size > _MAX_TAG_BYTES or entry.kind not in _INTEGERS:
            raise Damaged(f"its tag {tag} makes no sense")
        payload = self.payload(tag)
        if payload is None:
            raise Damaged("it is truncated")
        return struct.unpack(f"{self.order}{entry.count}{_INTEGERS[entry.kind]}", payload)

    def number(self, tag: int, default: int | None = None) -> int:
        values = self.numbers(tag, () if default is None else (default,))
        if not values:
            raise Damaged(f"its tag {tag} is missing")
        return values[0]

    def reduced(self, replaced: dict[int, int]) -> bytes:
        """The same file with one directory of one page and the kept tags only, some values replaced."""
        rows = []
        for tag in sorted(_KEPT & set(self.entries)):
            entry = self.entries[tag]
            if entry.size > _MAX_TAG_BYTES or self.payload(tag) is None:
                raise Damaged(f"its tag {tag} makes no sense")
            if tag in _SCALARS:
                value = replaced.get(tag, self.number(tag))
                row = struct.pack(f"{self.order}HH{'Q' if self.big else 'I'}I", tag, _LONG, 1, value)
                rows.append(row.ljust(len(entry.raw), b"\0"))
            else:
                rows.append(entry.raw)
        body = self.data + b"\0" * (len(self.data) % 2)
        word = "Q" if self.big else "I"
        header = body[:8] if self.big else body[:4]
        header += struct.pack(f"{self.order}{word}", len(body))
        count = struct.pack(f"{self.order}{'Q' if self.big else 'H'}", len(rows))
        return header + body[len(header) :] + count + b"".join(rows) + struct.pack(f"{self.order}{word}", 0)


def _check_storage(page: _Page, width: int, height: int) -> None:
    """Refuses files whose strips or tiles are too few, too large, or not all there."""
    planes = page.number(_CHANNELS, 1) if page.number(_PLANAR, 1) == 2 else 1
    if _TILE_OFFSETS in page.entries and _STRIP_OFFSETS not in page.entries:
        tile_width, tile_height = page.number(_TILE_WIDTH), page.number(_TILE_HEIGHT)
        if not 0 < tile_width * tile_height <= max(_MAX_TILE_PIXELS, 2 * width * height):
            raise Damaged(f"its tiles have {tile_width} x {tile_height} pixels")
        expected = math.ceil(width / tile_width) * math.ceil(height / tile_height) * planes
        offsets, sizes = page.numbers(_TILE_OFFSETS), page.numbers(_TILE_SIZES)
    else:
        rows = min(page.number(_ROWS_PER_STRIP, height), height)
        if rows < 1:
            raise Damaged("its strips are empty")
        expected = math.ceil(height / rows) * planes
        offsets, sizes = page.numbers(_STRIP_OFFSETS), page.numbers(_STRIP_SIZES)
    sizes = sizes or (1,) * len(offsets)
    if len(offsets) < expected or len(sizes) < expected:
        raise Damaged("it lacks a part of its picture")
    if any(offset + size > len(page.data) for offset, size in zip(offsets, sizes, strict=False)):
        raise Damaged("it is truncated")


def _decoded(data: bytes, width: int, height: int, num_bytes: int) -> Image.Image:
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
    if image.size != (width, height):
        raise Damaged(f"its size is {image.size} to one reader and {(width, height)} to another")
    for tile in image.tile:
        if tile.codec_name == "libtiff":
            continue
        # PIL's own reader of uncompressed data may be switched to accept data that ends early, so look before.
        assert tile.extents is not None
        assert isinstance(tile.args, tuple)
        left, top, right, bottom = tile.extents
        raw_mode, stride = str(tile.args[0]), int(tile.args[1])
        row = stride or math.ceil((right - left) * _bits_per_pixel(raw_mode) / 8)
        if right <= left or bottom <= top or tile.offset + (bottom - top) * row > num_bytes:
            raise Damaged("it is truncated")
    # With memory at hand PIL asks neither its own pixel limit nor raises its warning.
    image.im = Image.new(image.mode, image.size).im
    image.load()
    return image


def _bits_per_pixel(raw_mode: str) -> int:
    """What one pixel takes in a file: `RGB;16L` 48 bits, `P;4` 4, `LA` 16."""
    name, _, depth = raw_mode.partition(";")
    digits = "".join(filter(str.isdigit, depth))
    per_sample = int(digits) if digits else (1 if name == "1" else 8)
    return per_sample * len(name)


def _raster(image: Image.Image, bits: int, photometric: int, luma_and_chroma: bool) -> Raster:
    mode = image.mode
    if mode in ("P", "PA"):
        rgba = np.asarray(image.convert("RGBA"))
        return Raster(rgba[:, :, :3], "rgb", rgba[:, :, 3] if mode == "PA" else None)
    array = np.asarray(image)
    if mode.startswith("I;16"):
        levels = array.astype(np.uint16)
        if photometric == _WHITE_IS_ZERO:
            levels = np.uint16(2**bits - 1) - levels
        return Raster(grey(eight_bits(levels, bits)), "grey")
    if mode == "1":
        return Raster(grey(array.astype(np.uint8) * np.uint8(255)), "grey")
    pixels: Pixels = array.astype(np.uint8, copy=False)
    if luma_and_chroma:
        height, width = pixels.shape[:2]
        pixels = np.asarray(Image.frombytes("YCbCr", (width, height), pixels.tobytes()).convert("RGB"))
        return Raster(pixels, "rgb")
    if mode == "L":
        return Raster(grey(pixels), "grey")
    if mode == "LA":
        return Raster(pixels[:, :, :1], "grey", pixels[:, :, 1])
    if mode == "RGB":
        return Raster(pixels, "rgb")
    if mode == "RGBA":
        return Raster(pixels[:, :, :3], "rgb", pixels[:, :, 3])
    if mode == "CMYK":
        return Raster(pixels, "cmyk")
    if mode == "LAB":
        return Raster(pixels, "lab")
    raise Damaged(f"its samples are of kind {mode}")
