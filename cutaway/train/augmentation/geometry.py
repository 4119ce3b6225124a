"""Crops, flips, rotations and affine maps of a batch, each sample by its own.

Every map is a matrix from where a pixel ends up to where it comes from, so maps in a row are one matrix product and the
pictures are interpolated once. Crops and flips alone move whole pixels and are not interpolated at all. What comes from
outside a picture is black.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from cutaway.settings.augmentation_names import Augmentation
from cutaway.train.augmentation.draws import Draws

Matrices = npt.NDArray[np.float64]
"""float64 [B, 3, 3]: (x, y, 1) of a pixel in the result -> of its source, in pixels from the picture's centre."""

_RATIO = 4 / 3


def move(pictures: Tensor, steps: Sequence[tuple[Augmentation, Draws]]) -> Tensor:
    """Applies geometric augmentations in a row.

    Args:
        pictures: uint8 [B, C, H, W].
        steps: Each augmentation with its draws.

    Returns:
        uint8 [B, C, H, W].
    """
    height, width = pictures.shape[2:]
    if all(augmentation.name in _EXACT for augmentation, _ in steps):
        for augmentation, draws in steps:
            pictures = _EXACT[augmentation.name](pictures, draws, augmentation.strengths)
        return pictures
    matrices = np.broadcast_to(np.eye(3), (len(pictures), 3, 3))
    for augmentation, draws in steps:
        matrices = matrices @ MATRICES[augmentation.name](draws, augmentation.strengths, height, width)
    return resampled(pictures, matrices)


def resampled(pictures: Tensor, matrices: Matrices) -> Tensor:
    """Fetches each pixel from where its matrix says, bilinearly: uint8 [B, C, H, W] -> the same."""
    height, width = pictures.shape[2:]
    # grid_sample counts in halves of a side from the centre.
    scaled = matrices[:, :2] * np.array([2 / width, 2 / height])[None, :, None]
    rows = torch.from_numpy(scaled.astype(np.float32)).to(pictures.device)
    across = torch.arange(width, dtype=torch.float32, device=pictures.device) - (width - 1) / 2
    down = torch.arange(height, dtype=torch.float32, device=pictures.device) - (height - 1) / 2
    # By sums and products of single elements: a matrix product may round differently in another batch.
    by_column = rows[:, :, 0, None] * across
    by_row = rows[:, :, 1, None] * down + rows[:, :, 2, None]
    grid = by_row[:, :, :, None] + by_column[:, :, None, :]
    moved = F.grid_sample(pictures.float(), grid.permute(0, 2, 3, 1).contiguous(), align_corners=False)
    return moved.round_().to(torch.uint8)


def rotation(degrees: npt.NDArray[np.float64]) -> Matrices:
    """Turns pictures counter-clockwise by an angle each."""
    angles = np.radians(degrees)
    cosine, sine = np.cos(angles), np.sin(angles)
    return _matrices(cosine, -sine, 0, sine, cosine, 0)


def translation(across: npt.NDArray[np.float64], down: npt.NDArray[np.float64]) -> Matrices:
    """Moves pictures to the right and down by so many pixels."""
    return _matrices(np.ones(len(across)), 0, -across, 0, 1, -down)


def shear(across: npt.NDArray[np.float64], down: npt.NDArray[np.float64], height: int, width: int) -> Matrices:
    """Leans pictures about their upper left corner, as the policies' papers do.

    A pixel comes from `across` times its distance from the top further to the right, and from `down` times its distance
    from the left further below.
    """
    return _matrices(np.ones(len(across)), across, across * height / 2, down, 1, down * width / 2)


def crop_box(
    draws: Draws, strengths: Sequence[float], height: int, width: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Top, left, height and width, int64 [B] each, of the part that `resized-crop` keeps.

    Its area is a share of the picture's between both strengths, and its ratio between 3:4 and 4:3, as in Inception's
    training (arXiv:1409.4842), but no side is longer than the picture's.
    """
    area = draws.between(strengths[0], strengths[1], 0) * (height * width)
    ratio = np.exp(draws.between(-np.log(_RATIO), np.log(_RATIO), 1))
    rows = np.clip(np.rint(np.sqrt(area / ratio)), 1, height).astype(np.int64)
    columns = np.clip(np.rint(np.sqrt(area * ratio)), 1, width).astype(np.int64)
    return draws.below(height - rows + 1, 2), draws.below(width - columns + 1, 3), rows, columns


def _resized_crop(draws: Draws, strengths: Sequence[float], height: int, width: int) -> Matrices:
    top, left, rows, columns = crop_box(draws, strengths, height, width)
    return _matrices(columns / width, 0, left + (columns - width) / 2, 0, rows / height, top + (rows - height) / 2)


def _crop(draws: Draws, strengths: Sequence[float], height: int, width: int) -> Matrices:
    down, across = _offsets(draws, strengths, height, width)
    return translation(-across.astype(np.float64), -down.astype(np.float64))


def _flip(draws: Draws, strengths: Sequence[float], height: int, width: int) -> Matrices:
    return _matrices(np.where(draws.happens(strengths[0], 0), -1.0, 1.0), 0, 0, 0, 1, 0)


def _vertical_flip(draws: Draws, strengths: Sequence[float], height: int, width: int) -> Matrices:
    return _matrices(1, 0, 0, 0, np.where(draws.happens(strengths[0], 0), -1.0, 1.0), 0)


def _rotate(draws: Draws, strengths: Sequence[float], height: int, width: int) -> Matrices:
    return rotation(draws.between(-strengths[0], strengths[0], 0))


def _affine(draws: Draws, strengths: Sequence[float], height: int, width: int) -> Matrices:
    degrees, share, scale, sheared = strengths
    moved = translation(draws.between(-share, share, 1) * width, draws.between(-share, share, 2) * height)
    turned = rotation(draws.between(-degrees, degrees, 0))
    tangent = np.tan(np.radians(draws.between(-sheared, sheared, 4)))
    leaning = _matrices(np.ones(len(draws)), tangent, 0, 0, 1, 0)
    factor = 1 / draws.between(1 - scale, 1 + scale, 3)
    return leaning @ _matrices(factor, 0, 0, 0, factor, 0) @ turned @ moved


MATRICES: dict[str, Callable[[Draws, Sequence[float], int, int], Matrices]] = {
    "resized-crop": _resized_crop,
    "crop": _crop,
    "flip": _flip,
    "vertical-flip": _vertical_flip,
    "rotate": _rotate,
    "affine": _affine,
}


def _exact_crop(pictures: Tensor, draws: Draws, strengths: Sequence[float]) -> Tensor:
    height, width = pictures.shape[2:]
    down, across = _offsets(draws, strengths, height, width)
    margin = _margin(strengths, height, width)
    padded = F.pad(pictures, (margin,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    at = [torch.from_numpy(offset + margin).to(pictures.device) for offset in (down, across)]
    return windows[torch.arange(len(pictures), device=pictures.device), :, at[0], at[1]]


def _exact_flip(pictures: Tensor, draws: Draws, strengths: Sequence[float]) -> Tensor:
    return chosen(draws.happens(strengths[0], 0), pictures.flip(3), pictures)


def _exact_vertical_flip(pictures: Tensor, draws: Draws, strengths: Sequence[float]) -> Tensor:
    return chosen(draws.happens(strengths[0], 0), pictures.flip(2), pictures)


_EXACT: dict[str, Callable[[Tensor, Draws, Sequence[float]], Tensor]] = {
    "crop": _exact_crop,
    "flip": _exact_flip,
    "vertical-flip": _exact_vertical_flip,
}


def chosen(which: npt.NDArray[np.bool_], there: Tensor, otherwise: Tensor) -> Tensor:
    """Takes whole pictures from one batch where `which` (bool [B]) says so, and from the other elsewhere."""
    if not which.any() or which.all():  # a batch of one, as of every file, among others
        return there if which.any() else otherwise
    return torch.where(torch.from_numpy(which).to(there.device)[:, None, None, None], there, otherwise)


def _margin(strengths: Sequence[float], height: int, width: int) -> int:
    """Black pixels around the picture that the crop may reach into."""
    return int(strengths[0]) or max(1, -(-min(height, width) // 8))


def _offsets(
    draws: Draws, strengths: Sequence[float], height: int, width: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the crop lies, down and to the right of the picture: int64 [B] each, from -margin to margin."""
    margin = _margin(strengths, height, width)
    return draws.below(2 * margin + 1, 0) - margin, draws.below(2 * margin + 1, 1) - margin


def _matrices(*elements: npt.NDArray[np.float64] | float) -> Matrices:
    """The upper two rows, element by element, each a number or float64 [B]."""
    upper = np.stack(np.broadcast_arrays(*elements), axis=-1).reshape(-1, 2, 3)
    lowest = np.broadcast_to(np.array([0.0, 0.0, 1.0]), (len(upper), 1, 3))
    return np.concatenate([upper, lowest], axis=1)
