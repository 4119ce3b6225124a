"""A data set from whatever a person hands in."""

from __future__ import annotations

from typing import TypeGuard

import numpy as np

from cutaway.datasets.dataset import Dataset
from cutaway.datasets.objects import Arrays, MapDataset
from cutaway.datasets.splitting import SET_ASIDE
from cutaway.errors import DataError


def as_dataset(data: object, *, seed: int = 0, valid_share: float = SET_ASIDE) -> Dataset:
    """A data set from whatever a person handed in.

    Args:
        data: A `Dataset`; one map-style data set, or a tuple (train, valid) or (train, valid, test) of them; a pair of
            arrays (images, labels), or a tuple of two or three such pairs.
        seed: Decides what is set aside for validation where only training data is given.
        valid_share: How much of it.

    Raises:
        DataError: It is none of these, or what it holds is unfit for classification.
    """
    if isinstance(data, Dataset):
        return data
    if _is_pair(data):
        return Dataset.from_arrays(data, seed=seed, valid_share=valid_share)
    if isinstance(data, tuple | list) and 1 <= len(data) <= 3:
        if all(_is_pair(part) for part in data):
            return Dataset.from_arrays(*data, seed=seed, valid_share=valid_share)
        if all(_is_map_dataset(part) for part in data):
            return Dataset.from_torch(*data, seed=seed, valid_share=valid_share)
    elif _is_map_dataset(data):
        return Dataset.from_torch(data, seed=seed, valid_share=valid_share)
    raise DataError(
        f"No data set can be made of {type(data).__name__}.",
        hint="Give a cutaway.Dataset, (train, valid[, test]) of map-style data sets, or arrays (images, labels).",
    )


def _is_pair(data: object) -> TypeGuard[Arrays]:
    """Whether it is (images, labels)."""
    return isinstance(data, tuple | list) and len(data) == 2 and all(_is_array(part) for part in data)


def _is_array(data: object) -> bool:
    return isinstance(data, np.ndarray) or hasattr(data, "detach")


def _is_map_dataset(data: object) -> TypeGuard[MapDataset]:
    return hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, tuple | list | str | dict)
