"""What covers pixels: an erased rectangle, and salt and pepper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cutaway.train.augmentation.draws import Draws

_SMALLEST, _RATIO = 0.02, 0.3


def erase(pictures: Tensor, draws: Draws, strengths: Sequence[float], fill: Tensor) -> Tensor:
    """Covers a rectangle of some pictures (Random Erasing, arXiv:1708.04896).

    Its area is a share of the picture's between 0.02 and the second strength, and its ratio between 0.3 and 1 / 0.3,
    but no side is longer than the picture's.

    Args:
        pictures: uint8 [B, C, H, W].
        draws: For these samples.
        strengths: The probability, and the largest share.
        fill: uint8 [C], usually the mean level, which normalisation turns into zero.
    """
    height, width = pictures.shape[2:]
    area = draws.between(_SMALLEST, strengths[1], 1) * (height * width)
    ratio = np.exp(draws.between(np.log(_RATIO), -np.log(_RATIO), 2))
    rows = np.clip(np.rint(np.sqrt(area * ratio)), 1, height).astype(np.int64)
    columns = np.clip(np.rint(np.sqrt(area / ratio)), 1, width).astype(np.int64)
    top, left = draws.below(height - rows + 1, 3), draws.below(width - columns + 1, 4)
    # A picture that nothing happens to has a rectangle without rows.
    rows = np.where(draws.happens(strengths[0], 0), rows, 0)
    covered = _within(top, rows, height, pictures)[:, :, None] & _within(left, columns, width, pictures)[:, None, :]
    return torch.where(covered[:, None], fill.to(pictures.device)[:, None, None], pictures)


def salt_and_pepper(pictures: Tensor, draws: Draws, strengths: Sequence[float]) -> Tensor:
    """Turns a share of the pixels white or black, each as often: uint8 [B, C, H, W] -> the same."""
    share = strengths[0]
    numbers = draws.pixels(pictures.shape[2], pictures.shape[3], pictures.device)[:, None]
    ends = torch.where(numbers < share / 2, 255, 0).to(torch.uint8)
    return torch.where(numbers < share, ends, pictures)


def _within(first: npt.NDArray[np.int64], count: npt.NDArray[np.int64], length: int, pictures: Tensor) -> Tensor:
    """Which of `length` positions lie within `count` from `first` on: int64 [B] each -> bool [B, length]."""
    begin, end = (torch.from_numpy(at).to(pictures.device)[:, None] for at in (first, first + count))
    at = torch.arange(length, device=pictures.device)
    return (at >= begin) & (at < end)
