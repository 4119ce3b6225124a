"""From bytes or a file to upright sRGB pixels over white."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cutaway.errors import ImageError
from cutaway.images import gif, jpeg, png, tiff, webp, windows_bitmap
from cutaway.images.colour import to_srgb
from cutaway.images.orientation import upright
from cutaway.images.raster import Canvas, Damaged, Pixels, Raster

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})

_FORMATS = "JPEG, PNG, WebP, BMP, TIFF or GIF"
_BLOCK = 2**20


@dataclass(frozen=True)
class Limits:
    """What `decode` accepts.

    Attributes:
        max_bytes: Size of the file, in bytes.
        max_pixels: Width times height that the file's header promises.
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 100_000_000


DEFAULT_LIMITS = Limits()


def decode(source: bytes | Path, *, limits: Limits = DEFAULT_LIMITS) -> Pixels:
    """Decodes a picture as a person sees it.

    Turned as its EXIF orientation asks; transparency over white; colour profiles, CMYK and CIELAB converted to sRGB; 16
    bits reduced to their upper eight; of an animation or a multi-page file the first picture. The format is told by
    the content, never by the name. The same bytes give the same pixels in any thread and under any setting of PIL.

    Args:
        source: The bytes of a JPEG, PNG, WebP, BMP, TIFF or GIF file, or the path of one.
        limits: What is refused before its pixels are decoded.

    Returns:
        uint8 [H, W, 3], sRGB.

    Raises:
        ImageError: If there is no such file, or it is no whole picture of these formats within the limits.
    """
    name = f"{source.name!r}" if isinstance(source, Path) else "The picture"
    data = read_bytes(source, limits=limits) if isinstance(source, Path) else bytes(source)
    if len(data) > limits.max_bytes:
        raise ImageError(
            f"{name} has more than the {limits.max_bytes:,} bytes that are allowed.", hint="Make it smaller first."
        )
    try:
        raster = _raster(data, Canvas(limits.max_pixels))
        colors = to_srgb(raster.samples, raster.space, raster.icc)
        # PIL gives memory that must not be written to, and torch warns about it.
        return np.require(upright(_over_white(colors, raster.alpha), raster.orientation), requirements=["C", "W"])
    except ImageError:
        raise
    except Damaged as error:
        raise ImageError(f"{name} cannot be decoded: {error}.", hint=f"Save it again as {_FORMATS}.") from error
    except MemoryError as error:
        raise ImageError(f"{name} is too large for this machine's memory.", hint="Make it smaller first.") from error
    # Whatever a codec or a broken header raises: hostile bytes must never become a traceback.
    except Exception as error:
        raise ImageError(
            f"{name} cannot be decoded: it is damaged or truncated.", hint=f"Save it again as {_FORMATS}."
        ) from error


def read_bytes(path: Path, *, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Reads a file, at most one byte more of it than is allowed; `decode` then refuses it.

    Raises:
        ImageError: If it cannot be read, or is no file but a folder, a pipe or a device.
    """
    try:
        # Reading a pipe or a device might never end.
        if path.exists() and not path.is_file():
            raise ImageError(f"{str(path)!r} is not a file.", hint="Give the path of a picture.")
        with path.open("rb") as file:
            return file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(f"{str(path)!r} cannot be read: {reason}.") from error


def encode_png(image: Pixels) -> bytes:
    """The bytes of a PNG file.

    Args:
        image: uint8 [H, W, 3] or [H, W, 1].
    """
    file = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, "PNG")
    return file.getvalue()


def _raster(data: bytes, canvas: Canvas) -> Raster:
    if data.startswith(jpeg.SIGNATURE):
        return jpeg.read_jpeg(data, canvas)
    if data.startswith(png.SIGNATURE):
        return png.read_png(data, canvas)
    if data.startswith(gif.SIGNATURES):
        return gif.read_gif(data, canvas)
    if data.startswith(tiff.SIGNATURES):
        return tiff.read_tiff(data, canvas)
    if webp.is_webp(data):
        return webp.read_webp(data, canvas)
    if data.startswith(windows_bitmap.SIGNATURE):
        return windows_bitmap.read_bmp(data, canvas)
    raise Damaged("it is empty" if not data else f"it is no {_FORMATS}")


def _over_white(pixels: Pixels, alpha: Pixels | None) -> Pixels:
    """Lays uint8 [H, W, 3] with opacity uint8 [H, W] over white, rounding to the nearest level."""
    if alpha is None or alpha.min() == 255:
        return pixels
    laid = np.empty(pixels.shape, dtype=np.uint8)
    rows = max(1, _BLOCK // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        opacity = alpha[top : top + rows, :, None].astype(np.uint16)
        weighted = pixels[top : top + rows] * opacity + (255 - opacity) * np.uint16(255)
        laid[top : top + rows] = (weighted + np.uint16(127)) // np.uint16(255)
    return laid
