"""Pictures made by hand, chunk by chunk."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.fixture
def png_chunk() -> Callable[[bytes, bytes], bytes]:
    return _chunk


@pytest.fixture
def make_png() -> Callable[..., bytes]:
    """make_png(width, height, bits, color, rows, extra=[(kind, body)]): rows are bytes without the filter byte."""

    def make(
        width: int,
        height: int,
        bits: int,
        color: int,
        rows: list[bytes],
        extra: list[tuple[bytes, bytes]] | None = None,
    ) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
        body = zlib.compress(b"".join(b"\0" + row for row in rows))
        middle = b"".join(_chunk(*chunk) for chunk in extra or [])
        return PNG_SIGNATURE + _chunk(b"IHDR", header) + middle + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")

    return make


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """encoded(image, format, **options): the bytes PIL saves."""

    def encode(image: Image.Image, kind: str, **options: object) -> bytes:
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    return encode
