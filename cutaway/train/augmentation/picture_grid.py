"""Pictures beside what training makes of them in its first epochs: for a person to see what the network sees."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cutaway.datasets import Split
from cutaway.preprocessing import Preprocessing
from cutaway.preprocessing.spec import Pixels
from cutaway.train.augmentation.augmenter import Augmenter
from cutaway.train.augmentation.mixing import Mixing

ROWS, EPOCHS = 8, 8
_SIDE, _GAP, _WIDE_GAP, _PAPER = 72, 3, 14, 255


def picture_grid(
    split: Split, preprocessing: Preprocessing, augmenter: Augmenter, mixing: Mixing, *, epochs: int = EPOCHS
) -> Pixels:
    """A row for each of some pictures from all over the split: itself, and what it is in each of the first epochs.

    Where pictures are mixed, those of a column are mixed with one another, as if they were the batch of that step.

    Args:
        split: What is trained on.
        preprocessing: Of the network.
        augmenter: Applied as in training, with the same draws.
        mixing: Likewise.
        epochs: How many.

    Returns:
        uint8 [H, W, 3], small pictures enlarged with sharp pixels and large ones made smaller.
    """
    rows = min(ROWS, len(split))
    indices = torch.arange(rows) * len(split) // rows
    labels = torch.from_numpy(split.labels[indices.numpy()])
    plain = _stacked([_picture(split, preprocessing, index) for index in indices.tolist()])
    columns = [plain]
    for epoch in range(epochs):
        if split.images is None:
            photos = [augmenter.photo(split.image(index), index, epoch) for index in indices.tolist()]
            varied = _stacked(photos)
        else:
            varied = augmenter.batch(plain, epoch, indices)
        mixed, _ = mixing(varied.float(), labels, epoch)
        columns.append(mixed.round().to(torch.uint8))
    return _pasted([[_fitted(picture) for picture in column] for column in columns])


def _picture(split: Split, preprocessing: Preprocessing, index: int) -> Pixels:
    image = split.image(index)
    return image if split.prepared else preprocessing.picture(image)


def _stacked(pictures: list[Pixels]) -> Tensor:
    """uint8 [h, w, C] each -> uint8 [B, C, h, w]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def _fitted(picture: Tensor) -> Pixels:
    """uint8 [C, h, w] -> uint8 [H, W, 3], the longer side about `_SIDE` pixels."""
    pixels = picture.expand(3, -1, -1).permute(1, 2, 0).numpy()
    longer = max(pixels.shape[:2])
    if longer <= _SIDE:
        factor = max(1, round(_SIDE / longer))
        return pixels.repeat(factor, 0).repeat(factor, 1)
    height, width = (max(1, round(side * _SIDE / longer)) for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def _pasted(columns: list[list[Pixels]]) -> Pixels:
    """Tiles of one size side by side, the first column set apart."""
    height, width = columns[0][0].shape[:2]
    down, across = height + _GAP, width + _GAP
    shape = (down * len(columns[0]) + _GAP, across * len(columns) + _GAP + _WIDE_GAP, 3)
    paper = np.full(shape, _PAPER, np.uint8)
    for column, tiles in enumerate(columns):
        left = _GAP + column * across + (_WIDE_GAP if column else 0)
        for row, tile in enumerate(tiles):
            top = _GAP + row * down
            paper[top : top + height, left : left + width] = tile
    return paper
