"""RandAugment (arXiv:1909.13719) and TrivialAugment Wide (arXiv:2103.10158), a whole batch at a time.

Each picture draws its own operation and sign; the pictures that drew the same one are changed together. Operations and
their ranges are torchvision's. What moves pixels interpolates bilinearly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cutaway.train.augmentation import colour
from cutaway.train.augmentation.draws import Draws
from cutaway.train.augmentation.geometry import Matrices, resampled, rotation, shear, translation

BINS = 30
"""Magnitudes are this many equal parts of an operation's range."""


@dataclass(frozen=True)
class Ranges:
    """What the full magnitude means.

    Attributes:
        shear: Tangent of the angle.
        across: Pixels moved to a side.
        down: Pixels moved up or down.
        rotation: Degrees.
        blend: Largest distance from 1 of the factor of brightness, saturation, contrast and sharpness.
        bits: Bits that `posterize` takes away.
    """

    shear: float
    across: float
    down: float
    rotation: float
    blend: float
    bits: int


def randaugment(pictures: Tensor, draws: Draws, strengths: Sequence[float]) -> Tensor:
    """So many operations in a row on each picture, all of one magnitude: uint8 [B, C, H, W] -> the same."""
    height, width = pictures.shape[2:]
    ranges = Ranges(0.3, 150 / 331 * width, 150 / 331 * height, 30, 0.9, 4)
    for turn in range(int(strengths[0])):
        number, sign = draws.below(len(OPERATIONS), 2 * turn), _signs(draws, 2 * turn + 1)
        pictures = applied(pictures, number, np.full(len(draws), strengths[1] / BINS), sign, ranges)
    return pictures


def trivial(pictures: Tensor, draws: Draws, strengths: Sequence[float]) -> Tensor:
    """One operation of a drawn magnitude on each picture: uint8 [B, C, H, W] -> the same."""
    number, sign, magnitude = draws.below(len(OPERATIONS), 0), _signs(draws, 1), draws.below(BINS + 1, 2) / BINS
    return applied(pictures, number, magnitude, sign, Ranges(0.99, 32, 32, 135, 0.99, 6))


def applied(
    pictures: Tensor,
    numbers: npt.NDArray[np.int64],
    magnitudes: npt.NDArray[np.float64],
    signs: npt.NDArray[np.float64],
    ranges: Ranges,
) -> Tensor:
    """One operation on each picture.

    Args:
        pictures: uint8 [B, C, H, W].
        numbers: int64 [B], positions in `OPERATIONS`.
        magnitudes: float64 [B], shares of the range.
        signs: float64 [B], 1 or -1 for operations that have two directions.
        ranges: What a share of 1 means.

    Returns:
        uint8 [B, C, H, W].
    """
    height, width = pictures.shape[2:]
    result = pictures.clone()
    for number in np.unique(numbers).tolist():
        name = OPERATIONS[number]
        at = np.flatnonzero(numbers == number)
        where = torch.from_numpy(at).to(pictures.device)
        share, signed = magnitudes[at], magnitudes[at] * signs[at]
        if name in _MOVES:
            result[where] = resampled(pictures[where], _MOVES[name](signed, ranges, height, width))
        elif name in _BLENDS:
            result[where] = _BLENDS[name](pictures[where], 1 + signed * ranges.blend)
        elif name == "posterize":
            result[where] = colour.posterize(pictures[where], 8 - np.rint(share * ranges.bits).astype(np.int64))
        elif name == "solarize":
            result[where] = colour.solarize(pictures[where], 255 * (1 - share))
        elif name != "identity":
            result[where] = _WHOLE[name](pictures[where])
    return result


def _signs(draws: Draws, slot: int) -> npt.NDArray[np.float64]:
    return np.where(draws.happens(0.5, slot), -1.0, 1.0)


def _whole_translation(across: npt.NDArray[np.float64], down: npt.NDArray[np.float64]) -> Matrices:
    return translation(np.trunc(across), np.trunc(down))


_MOVES: dict[str, Callable[[npt.NDArray[np.float64], Ranges, int, int], Matrices]] = {
    "shear-x": lambda signed, ranges, height, width: shear(signed * ranges.shear, 0 * signed, height, width),
    "shear-y": lambda signed, ranges, height, width: shear(0 * signed, signed * ranges.shear, height, width),
    "translate-x": lambda signed, ranges, height, width: _whole_translation(signed * ranges.across, 0 * signed),
    "translate-y": lambda signed, ranges, height, width: _whole_translation(0 * signed, signed * ranges.down),
    "rotate": lambda signed, ranges, height, width: rotation(signed * ranges.rotation),
}
_BLENDS: dict[str, Callable[[Tensor, colour.Factors], Tensor]] = {
    "brightness": colour.brightness,
    "saturation": colour.saturation,
    "contrast": colour.contrast,
    "sharpness": colour.sharpness,
}
_WHOLE: dict[str, Callable[[Tensor], Tensor]] = {
    "autocontrast": colour.autocontrast,
    "equalize": colour.equalize,
}
OPERATIONS = ("identity", *_MOVES, *_BLENDS, "posterize", "solarize", *_WHOLE)
