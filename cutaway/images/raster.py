"""What a container yields before it becomes RGB: samples, their colour space, and how to show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from cutaway.errors import ImageError

Pixels = npt.NDArray[np.uint8]
Space = Literal["grey", "rgb", "cmyk", "lab"]


@dataclass(frozen=True, eq=False)
class Raster:
    """The first picture of a file, as stored.

    Attributes:
        samples: uint8 [H, W, C], C as `space` says: 1, 3 or 4.
        space: Colour space of the samples; `cmyk` with 0 for no ink.
        alpha: uint8 [H, W], 0 for transparent, or None for an opaque picture.
        orientation: EXIF orientation, 1 to 8.
        icc: The embedded colour profile, unchecked.
    """

    samples: Pixels
    space: Space
    alpha: Pixels | None = None
    orientation: int = 1
    icc: bytes | None = None


class Damaged(Exception):  # noqa: N818
    """A container breaks its own rules; `decode` tells the person."""


@dataclass(frozen=True)
class Canvas:
    """The guard that every container passes its picture's size before memory is taken."""

    max_pixels: int

    def check(self, width: int, height: int) -> None:
        """Raises where a picture of `width` x `height` pixels is empty or larger than allowed."""
        if width < 1 or height < 1:
            raise Damaged(f"its header promises {width} x {height} pixels")
        if width * height > self.max_pixels:
            raise ImageError(
                f"The picture has {width} x {height} pixels, more than the {self.max_pixels:,} that are allowed.",
                hint="Make it smaller first.",
            )


def grey(samples: npt.NDArray[np.uint8]) -> Pixels:
    """uint8 [H, W] -> uint8 [H, W, 1]."""
    return samples[:, :, None]


def eight_bits(samples: npt.NDArray[np.uint16], bits: int = 16) -> Pixels:
    """The upper eight of `bits` bits, as libpng, OpenCV and PIL's colour modes reduce them; never clipped."""
    upper: Pixels = np.minimum(samples >> np.uint16(bits - 8), 255).astype(np.uint8)
    return upper


def from_palette(indices: Pixels, palette: bytes) -> Pixels:
    """uint8 [H, W] and up to 256 RGB triples -> uint8 [H, W, 3]; indices beyond the palette are black."""
    table = np.zeros((256, 3), dtype=np.uint8)
    colors = np.frombuffer(palette[: len(palette) // 3 * 3], dtype=np.uint8).reshape(-1, 3)[:256]
    table[: len(colors)] = colors
    colored: Pixels = table[indices]
    return colored


def run_codec(mode: str, width: int, height: int, data: bytes, codec: str, args: object) -> npt.NDArray[np.generic]:
    """Runs one of PIL's codecs over all of `data` and refuses data that ends early, whatever PIL's switches say."""
    return np.asarray(Image.frombytes(mode, (width, height), data, codec, args))
