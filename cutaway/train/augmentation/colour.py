"""Colours of a batch, each sample by its own strength. Geometry and colours that are left out stay as they are.

The formulas are torchvision's, with a factor for each sample instead of one for all, and rounded to the nearest grey
level where torchvision truncates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from cutaway.train.augmentation.draws import Draws
from cutaway.train.augmentation.geometry import chosen

Factors = npt.NDArray[np.float64]
"""float64 [B]: 1 leaves a picture as it is, 0 takes all of something away, above 1 gives it more."""


def brightness(pictures: Tensor, factors: Factors) -> Tensor:
    """Towards black: uint8 [B, C, H, W] -> the same."""
    return _blended(pictures, 0, factors)


def contrast(pictures: Tensor, factors: Factors) -> Tensor:
    """Towards the picture's mean grey: uint8 [B, C, H, W] -> the same."""
    # Summed in whole numbers, which no order of adding changes.
    total = _grey(pictures).sum(dim=(1, 2, 3), keepdim=True, dtype=torch.int64)
    return _blended(pictures, total.float() / (pictures.shape[2] * pictures.shape[3]), factors)


def saturation(pictures: Tensor, factors: Factors) -> Tensor:
    """Towards grey: uint8 [B, C, H, W] -> the same."""
    return pictures if pictures.shape[1] == 1 else _blended(pictures, _grey(pictures), factors)


def sharpness(pictures: Tensor, factors: Factors) -> Tensor:
    """Towards a blur of 3 by 3 pixels, or away from it: uint8 [B, C, H, W] -> the same. The border stays."""
    height, width = pictures.shape[2:]
    if min(height, width) < 3:
        return pictures
    levels = pictures.to(torch.int16)
    across = levels[..., :-2] + levels[..., 1:-1] + levels[..., 2:]
    around = across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]
    inner = pictures[..., 1:-1, 1:-1]
    blurred = ((around + 4 * inner.to(torch.int16)).float() / 13).round_()
    result = pictures.clone()
    result[..., 1:-1, 1:-1] = _blended(inner, blurred, factors)
    return result


def hue(pictures: Tensor, turns: npt.NDArray[np.float64]) -> Tensor:
    """Turns the colour circle by a share of a whole turn each: uint8 [B, C, H, W] -> the same."""
    if pictures.shape[1] == 1:
        return pictures
    red, green, blue = pictures.float().unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    divisor = torch.where(chroma == 0, torch.ones_like(chroma), chroma)
    sector = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    turned = sector + 6 * _each(turns, pictures)[:, 0]
    parts = []
    for start in (5, 3, 1):
        at = (turned + start) % 6
        parts.append(value - chroma * torch.minimum(at, 4 - at).clamp_(0, 1))
    return torch.stack(parts, 1).round_().clamp_(0, 255).to(torch.uint8)


def posterize(pictures: Tensor, bits: npt.NDArray[np.int64]) -> Tensor:
    """Keeps so many of the eight bits of each level: uint8 [B, C, H, W] -> the same."""
    masks = torch.from_numpy((0xFF << (8 - bits) & 0xFF).astype(np.uint8)).to(pictures.device)
    return pictures & masks[:, None, None, None]


def solarize(pictures: Tensor, thresholds: npt.NDArray[np.float64]) -> Tensor:
    """Inverts the levels from a threshold up, each from 0 to 255: uint8 [B, C, H, W] -> the same."""
    whole = torch.from_numpy(np.ceil(thresholds).astype(np.uint8)).to(pictures.device)
    return torch.where(pictures >= whole[:, None, None, None], 255 - pictures, pictures)


def autocontrast(pictures: Tensor) -> Tensor:
    """Stretches each channel's levels over the whole range: uint8 [B, C, H, W] -> the same."""
    stretched: Tensor = tv.autocontrast(pictures)
    return stretched


def equalize(pictures: Tensor) -> Tensor:
    """Spreads each channel's levels evenly over the range: uint8 [B, C, H, W] -> the same."""
    spread: Tensor = tv.equalize(pictures)
    return spread


def colour_jitter(pictures: Tensor, draws: Draws, strengths: Sequence[float]) -> Tensor:
    """Brightness, contrast, saturation, each by a factor within its strength around 1, and hue, in this order."""
    for slot, (change, strength) in enumerate(zip((brightness, contrast, saturation), strengths, strict=False)):
        if strength:
            pictures = change(pictures, draws.between(1 - strength, 1 + strength, slot))
    return hue(pictures, draws.between(-strengths[3], strengths[3], 3)) if strengths[3] else pictures


def maybe_grayscale(pictures: Tensor, draws: Draws, strengths: Sequence[float]) -> Tensor:
    """Takes all colour out of some pictures."""
    return chosen(draws.happens(strengths[0], 0), _grey(pictures).expand_as(pictures), pictures)


def maybe_autocontrast(pictures: Tensor, draws: Draws, strengths: Sequence[float]) -> Tensor:
    """Stretches the levels of some pictures."""
    return chosen(draws.happens(strengths[0], 0), autocontrast(pictures), pictures)


def maybe_equalize(pictures: Tensor, draws: Draws, strengths: Sequence[float]) -> Tensor:
    """Spreads the levels of some pictures evenly."""
    return chosen(draws.happens(strengths[0], 0), equalize(pictures), pictures)


def maybe_invert(pictures: Tensor, draws: Draws, strengths: Sequence[float]) -> Tensor:
    """Turns some pictures into their negatives."""
    return chosen(draws.happens(strengths[0], 0), 255 - pictures, pictures)


def maybe_posterize(pictures: Tensor, draws: Draws, strengths: Sequence[float]) -> Tensor:
    """Keeps few levels of some pictures."""
    bits = np.full(len(draws), int(strengths[0]), np.int64)
    return chosen(draws.happens(strengths[1], 0), posterize(pictures, bits), pictures)


def maybe_solarize(pictures: Tensor, draws: Draws, strengths: Sequence[float]) -> Tensor:
    """Inverts the bright levels of some pictures."""
    return chosen(draws.happens(strengths[1], 0), solarize(pictures, np.full(len(draws), strengths[0])), pictures)


def maybe_sharpness(pictures: Tensor, draws: Draws, strengths: Sequence[float]) -> Tensor:
    """Sharpens some pictures, or blurs them with a factor below 1."""
    return chosen(draws.happens(strengths[1], 0), sharpness(pictures, np.full(len(draws), strengths[0])), pictures)


def _grey(pictures: Tensor) -> Tensor:
    """uint8 [B, C, H, W] -> uint8 [B, 1, H, W]."""
    if pictures.shape[1] == 1:
        return pictures
    red, green, blue = pictures.float().unbind(1)
    return (red * 0.2989 + green * 0.587 + blue * 0.114).floor_().to(torch.uint8)[:, None]


def _blended(pictures: Tensor, other: Tensor | int, factors: Factors) -> Tensor:
    share = _each(factors, pictures)
    blended = pictures.float() * share
    if isinstance(other, Tensor):
        blended += other.float() * (1 - share)
    return blended.round_().clamp_(0, 255).to(torch.uint8)


def _each(numbers: npt.NDArray[np.float64], pictures: Tensor) -> Tensor:
    """float32 [B, 1, 1, 1] on the pictures' device."""
    return torch.from_numpy(numbers.astype(np.float32)).to(pictures.device)[:, None, None, None]
