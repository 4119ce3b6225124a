"""Maps and kernels as small pictures, with the scale that they were drawn at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from cutaway.heatmaps import color_table, signed_color_table
from cutaway.preprocessing.spec import Pixels


@dataclass(frozen=True)
class Scale:
    """The values that the ends of the colours stand for.

    Attributes:
        low: The darkest end, or the blue one where `is_signed`.
        high: The brightest end, or the red one.
        is_signed: Blue over white to red with zero in the middle, instead of dark to bright.
    """

    low: float
    high: float
    is_signed: bool

    @property
    def css(self) -> str:
        """The colours as a CSS gradient from low to high."""
        table = color_ramp(self)
        stops = [table[index] for index in range(0, 256, 15)]
        return f"linear-gradient(to right, {', '.join(f'rgb({r} {g} {b})' for r, g, b in stops)})"


def color_ramp(scale: Scale) -> Pixels:
    """The 256 colours from a scale's low end to its high end: uint8 [256, 3]."""
    return signed_color_table() if scale.is_signed else color_table()


def scale_of(values: Tensor) -> Scale:
    """One scale for all finite values: from zero up where none is negative, else the same reach on both sides."""
    values = values[values.isfinite()]
    low, high = (float(values.min()), float(values.max())) if values.numel() else (0.0, 0.0)
    if low >= 0:
        return Scale(0.0, high, False)
    reach = max(-low, high)
    return Scale(-reach, reach, True)


def map_tile(values: Tensor, scale: Scale) -> Pixels:
    """One map as a picture: float [h, w] -> uint8 [h, w, 3]."""
    span = scale.high - scale.low
    shares = np.nan_to_num((values.numpy() - scale.low) / span if span > 0 else np.zeros(tuple(values.shape)))
    colors: Pixels = color_ramp(scale)[np.rint(np.clip(shares, 0, 1) * 255).astype(np.intp)]
    return colors


def kernel_tiles(weights: Tensor) -> tuple[list[Pixels], Scale]:
    """Kernels as pictures: in colour where they take three channels, else the mean over the channels they take.

    Args:
        weights: float [C_out, C_in, h, w].

    Returns:
        One picture [h, w, 3] per kernel, and their common scale; in colour, mid-grey is zero.
    """
    if weights.shape[1] != 3:
        flat = weights.mean(1)
        scale = scale_of(flat)
        return [map_tile(kernel, scale) for kernel in flat], scale
    reach = max(float(weights.abs().max()), 1e-12)
    colors = ((weights / reach + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return list(colors), Scale(-reach, reach, True)


def fitted(picture: Pixels, side: int) -> Pixels:
    """A picture near a size for the screen: small ones by whole factors with sharp pixels, large ones smoothly.

    Args:
        picture: uint8 [H, W, 1 or 3].
        side: Wanted length of the longer side, in pixels.

    Returns:
        uint8 [h, w, 3].
    """
    if picture.shape[2] == 1:
        picture = np.repeat(picture, 3, axis=2)
    longer = max(picture.shape[:2])
    if longer <= side:
        factor = max(1, side // longer)
        return np.ascontiguousarray(picture.repeat(factor, 0).repeat(factor, 1))
    height, width = (max(1, round(length * side / longer)) for length in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))
