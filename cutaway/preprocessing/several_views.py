"""Several views of a picture, whose answers are averaged at test time: mirror images, and crops of corners and centre.

Where a picture in a file is larger than the network's input after the preprocessing's resize, the crops are cut out of
that, as in AlexNet's ten (Krizhevsky et al., 2012). Otherwise each holds seven eighths of the sides, enlarged again.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cutaway.preprocessing.spec import Pixels, Preprocessing

TestViews = Literal["none", "flip", "five-crop", "ten-crop"]


def cuts_corners(views: TestViews) -> bool:
    """Whether these are crops."""
    return views in ("five-crop", "ten-crop")


def corners_and_center(photo: Pixels, key: int, preprocessing: Preprocessing) -> Pixels:
    """The five crops of a decoded picture, one below the other.

    Args:
        photo: uint8 [H, W, 1 or 3].
        key: Of the sample, which changes nothing.
        preprocessing: With `resize="shorter"`, which leaves more than the network's input to crop from.

    Returns:
        uint8 [5 * h, w, C]: upper left, upper right, lower left, lower right, centre.
    """
    resized = preprocessing.resized(*photo.shape[:2])
    whole = preprocessing.model_copy(update={"size": resized, "resize": "stretch", "resize_to": None}).picture(photo)
    crops = [
        whole[top : top + preprocessing.size[0], left : left + preprocessing.size[1]]
        for top, left in _origins(resized, preprocessing.size, preprocessing.crop_offset(*resized))
    ]
    return np.concatenate(crops)


def views_of(pictures: Tensor, views: TestViews, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """The views of a batch.

    Args:
        pictures: uint8 [B, C, h, w] of the network's size, or [B, C, 5 * h, w] from `corners_and_center`.
        views: Which.
        size: The network's h and w.

    Returns:
        One, two, five or ten tensors of grey levels [B, C, h, w].
    """
    found = [pictures]
    if pictures.shape[2] != size[0]:
        found = list(torch.split(pictures, size[0], dim=2))
    elif cuts_corners(views):
        found = _enlarged_crops(pictures)
    if views in ("flip", "ten-crop"):
        found += [view.flip(3) for view in found]
    return tuple(found)


def _enlarged_crops(pictures: Tensor) -> list[Tensor]:
    height, width = pictures.shape[2:]
    rows, columns = -(-7 * height // 8), -(-7 * width // 8)
    center = round((height - rows) / 2), round((width - columns) / 2)
    return [
        F.interpolate(pictures[:, :, top : top + rows, left : left + columns].float(), (height, width), mode="bilinear")
        for top, left in _origins((height, width), (rows, columns), center)
    ]


def _origins(picture: tuple[int, int], crop: tuple[int, int], center: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Top and left of the five crops."""
    bottom, right = picture[0] - crop[0], picture[1] - crop[1]
    return (0, 0), (0, right), (bottom, 0), (bottom, right), center
