"""Smoother maps: the mean over a picture, its mirror image and slightly larger and smaller copies of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cutaway.errors import InspectionError


@dataclass(frozen=True)
class Smoothing:
    """Which views of a picture are averaged, beside the picture itself.

    Attributes:
        mirror: Mirror each view left to right as well. Wrong for writing and digits.
        scales: Factors that the picture is enlarged by about its centre; below 1 it is made smaller, and what lies
            around it is filled with its mirror image.
    """

    mirror: bool = True
    scales: tuple[float, ...] = (0.9, 1.1)

    def __post_init__(self) -> None:
        for scale in self.scales:
            if not 0.5 <= scale <= 2:
                raise InspectionError(f"A scale for smoothing lies between 0.5 and 2, not at {scale}.")


def smoothed(maps_of: Callable[[Tensor], Tensor], inputs: Tensor, first: Tensor, smoothing: Smoothing) -> Tensor:
    """The mean over all views of their maps, each mapped back to where it lies in the picture.

    A view that is enlarged shows less of the picture: at each position the mean is over the views that saw it.

    Args:
        maps_of: From pictures [N, C, H, W] to maps [N, T, h, w].
        inputs: The pictures.
        first: Their own maps, which need not be computed again.
        smoothing: The views.

    Returns:
        float [N, T, h, w].
    """
    total = torch.zeros_like(first)
    seen = torch.zeros_like(first)
    for scale in (1.0, *smoothing.scales):
        for is_mirrored in (False, True) if smoothing.mirror else (False,):
            plain = scale == 1 and not is_mirrored
            maps = first if plain else maps_of(zoomed(_mirrored(inputs, is_mirrored), scale, padding="reflection"))
            maps = _mirrored(maps, is_mirrored)
            total += zoomed(maps, 1 / scale, padding="zeros")
            seen += zoomed(torch.ones_like(maps), 1 / scale, padding="zeros")
    return total / seen


def zoomed(images: Tensor, scale: float, *, padding: str) -> Tensor:
    """Enlarges about the centre and keeps the size: [N, C, H, W] -> [N, C, H, W]."""
    if scale == 1:
        return images
    turn = torch.tensor([[1 / scale, 0, 0], [0, 1 / scale, 0]], dtype=images.dtype, device=images.device)
    grid = F.affine_grid(turn.expand(len(images), -1, -1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def _mirrored(images: Tensor, yes: bool) -> Tensor:
    return images.flip(3) if yes else images
