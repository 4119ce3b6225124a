"""The part of a picture that the network saw, in the picture's own detail: what an overlay is laid over."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cutaway.preprocessing.spec import Pixels, Preprocessing

LONGEST_SIDE = 640


def view(image: Pixels, preprocessing: Preprocessing, *, longest: int = LONGEST_SIDE) -> Pixels:
    """Cuts out what the network's centre crop kept, or adds the grey around, and makes it small enough to send.

    A network that looks at 28 x 28 pixels of a photo is easier to follow on the photo. A heat-map stretched over this
    view lies where it lies in the network's input.

    Args:
        image: uint8 [H, W, 3], decoded.
        preprocessing: Of the network.
        longest: Length in pixels that the longer side may have; smaller pictures stay as they are.

    Returns:
        uint8 [h, w, 3].
    """
    height, width = image.shape[:2]
    left, top, right, bottom = kept(height, width, preprocessing)
    scale = min(1.0, longest / max(right - left, bottom - top))
    target = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    if target == (width, height) and (left, top, right, bottom) == (0, 0, width, height):
        return image
    if preprocessing.resize == "pad":
        return _padded(image, (left, top), scale, target, preprocessing.fill)
    cut = Image.fromarray(image).resize(target, Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    return np.asarray(cut)


def kept(height: int, width: int, preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """Left, top, right and bottom, in pixels of the picture, of what the network's input shows of it.

    Where the picture is padded they lie outside it.
    """
    if preprocessing.resize == "stretch":
        return 0.0, 0.0, float(width), float(height)
    resized_height, resized_width = preprocessing.resized(height, width)
    top, left = preprocessing.crop_offset(resized_height, resized_width)
    down, across = height / resized_height, width / resized_width
    right, bottom = left + preprocessing.size[1], top + preprocessing.size[0]
    if preprocessing.resize == "pad":
        return left * across, top * down, right * across, bottom * down
    return left * across, top * down, min(right * across, width), min(bottom * down, height)


def _padded(image: Pixels, corner: tuple[float, float], scale: float, target: tuple[int, int], fill: int) -> Pixels:
    """The picture, `scale` times as large, in the middle of grey; its left and top corner is that of the grey."""
    inside = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    left, top = (min(round(-side * scale), most - own) for side, most, own in zip(corner, target, inside, strict=True))
    padded = Image.new("RGB", target, (fill,) * 3)
    padded.paste(Image.fromarray(image).resize(inside, Image.Resampling.BILINEAR), (max(left, 0), max(top, 0)))
    return np.asarray(padded)
