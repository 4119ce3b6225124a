"""The IDX format of MNIST and Fashion-MNIST, plain or gzipped, read without trusting its header."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cutaway.errors import DataError

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, *, num_dimensions: int) -> npt.NDArray[np.uint8]:
    """Reads an IDX file of unsigned bytes.

    Args:
        path: The file; a name that ends in `.gz` is gunzipped.
        num_dimensions: What the file must hold: 1 for labels [N], 3 for images [N, H, W].

    Returns:
        uint8 with the dimensions that the header names.

    Raises:
        DataError: If the file cannot be read, is no IDX file of bytes, or its length is not what its header says.
    """
    header_size = 4 + 4 * num_dimensions
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(header_size)
            shape = _shape(path, header, num_dimensions)
            # Never more than the file really holds: the header may promise terabytes.
            expected = math.prod(shape)
            body = bytearray()
            while len(body) <= expected and (block := file.read(min(2**20, expected + 1 - len(body)))):
                body += block
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}.", hint="Delete it and fetch it again.") from error
    if len(body) != expected:
        problem = "is truncated" if len(body) < expected else "is longer than its header says"
        raise DataError(
            f"{path} {problem}: the header promises {expected} bytes of {list(shape)}.",
            hint="Delete it and fetch it again.",
        )
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


def _shape(path: Path, header: bytes, num_dimensions: int) -> tuple[int, ...]:
    expected = bytes([0, 0, _UNSIGNED_BYTE, num_dimensions])
    if len(header) != 4 + 4 * num_dimensions or header[:4] != expected:
        raise DataError(
            f"{path} is no IDX file of bytes in {num_dimensions} dimensions: it starts with {header[:4].hex(' ')!r} "
            f"and not with {expected.hex(' ')!r}.",
            hint="Delete it and fetch it again.",
        )
    return struct.unpack(f">{num_dimensions}I", header[4:])
