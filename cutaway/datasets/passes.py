"""Passes over all pictures of a data set: their statistics, and decoding them into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from cutaway.datasets.dataset import Dataset
from cutaway.datasets.split import SPLITS, Split
from cutaway.datasets.threads import in_threads
from cutaway.errors import DataError
from cutaway.images import Pixels
from cutaway.preprocessing.spec import Preprocessing
from cutaway.progress import Track, silent

STATISTICS_SAMPLE = 10_000


def statistics(
    split: Split,
    preprocessing: Preprocessing,
    *,
    max_files: int | None = STATISTICS_SAMPLE,
    track: Track = silent,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, over all pixels after resize and crop.

    Counted exactly as a histogram of the 256 levels, so the result depends neither on order nor on batch size.

    Args:
        split: The pictures; usually `train`.
        preprocessing: Its colour and geometry count, its own mean and std don't.
        max_files: Where the split has more files than this, as many of them, evenly spread. Splits in memory are
            counted whole.
        track: Shows progress.

    Returns:
        Mean and standard deviation in units of the [0, 1] range, one value per channel. Of a channel that never varies
        the deviation is given as 1, since it will be divided by.
    """
    if len(split) == 0:
        raise DataError(f"The split {split.name!r} is empty, so it has no statistics.")
    indices = np.arange(len(split))
    if split.paths is not None and max_files is not None and len(split) > max_files:
        indices = np.arange(max_files) * len(split) // max_files
    levels = np.zeros((preprocessing.channels, 256), dtype=np.int64)
    for picture in track(_pictures(split, preprocessing, indices.tolist()), "Measuring pixels", len(indices)):
        for channel, counts in enumerate(levels):
            counts += np.bincount(picture[:, :, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    num_pixels = levels.sum(axis=1)
    mean = levels @ values / num_pixels
    variance = (levels * (values[None] - mean[:, None]) ** 2).sum(axis=1) / num_pixels
    std = np.where(variance > 0, np.sqrt(variance), 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())


def into_memory(
    dataset: Dataset,
    preprocessing: Preprocessing,
    *,
    limit_bytes: int = 2**29,
    names: Sequence[str] = SPLITS,
    track: Track = silent,
) -> Dataset:
    """Decodes a data set of files once, where its pictures after resize and crop fit into `limit_bytes`.

    Args:
        dataset: Given back as it is where it lies in memory already or does not fit.
        preprocessing: The pictures become what its `picture` gives; the splits say so by `prepared`.
        limit_bytes: Of pixels, over the splits.
        names: The splits to decode; the others stay files.
        track: Shows progress.
    """
    channels, height, width = preprocessing.input_shape
    num_pictures = sum(len(dataset.split(name)) for name in names)
    if dataset.in_memory or num_pictures * channels * height * width > limit_bytes:
        return dataset
    splits = {name: dataset.split(name) for name in SPLITS}
    for name in names:
        split = dataset.split(name)
        images = np.empty((len(split), height, width, channels), dtype=np.uint8)
        pictures = _pictures(split, preprocessing, range(len(split)))
        for index, picture in enumerate(track(pictures, f"Decoding {name}", len(split))):
            images[index] = picture
        splits[name] = replace(split, images=images, paths=None, photos=None, prepared=True)
    in_memory = all(split.images is not None for split in splits.values())
    return replace(dataset, train=splits["train"], valid=splits["valid"], test=splits["test"], in_memory=in_memory)


def _pictures(split: Split, preprocessing: Preprocessing, indices: Sequence[int]) -> Iterator[Pixels]:
    """What the network will see of each sample, in order."""

    def picture(index: int) -> Pixels:
        image = split.image(index)
        return image if split.prepared else preprocessing.picture(image)

    return map(picture, indices) if split.paths is None else in_threads(picture, indices)
