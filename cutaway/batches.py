"""Batches of one split on one device: gathered from memory, or decoded by workers; always as pixels."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cutaway.datasets import Split
from cutaway.errors import CutawayError
from cutaway.images import Pixels
from cutaway.preprocessing import Preprocessing
from cutaway.preprocessing.tensors import Preprocess

Prepare = Callable[[Pixels, int], Pixels]
"""From a decoded picture, uint8 [H, W, C], and its key to pixels of one size for all."""


_MOST_USUAL_WORKERS = 4


@dataclass(frozen=True)
class Batch:
    """Some samples of a split.

    Attributes:
        images: uint8 [B, H, W, C], on the feed's device.
        labels: int64 [B], on the feed's device.
        indices: int64 [B], positions in the split, on the CPU.
        keys: int64 [B], what each sample draws its random numbers by, on the CPU.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    keys: Tensor


class Feed:
    """Gives a split's batches in any order.

    A split in memory stays there as one uint8 tensor, on the device itself. A split of files is decoded and cut to the
    network's input by `workers` processes while the network works. Nothing here draws from torch's global generator,
    and the pixels of a sample don't depend on the number of workers.

    Args:
        split: The samples.
        preprocessing: Applied as far as pixels go to samples that come from files; those in memory pass as they are.
        device: Where batches are put.
        workers: Processes that decode files; 0 decodes in this one. None is one a core, four at most, for files on
            Linux; elsewhere each would start Python and torch anew, and objects of a person's own may not bear a fork.
    """

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        *,
        device: torch.device | str = "cpu",
        workers: int | None = 0,
    ) -> None:
        self.split = split
        self.preprocessing = preprocessing
        self.device = torch.device(device)
        self.workers = _usual_workers(split) if workers is None else workers
        self.prepared = split.prepared or split.images is None
        self._preprocess = Preprocess(preprocessing).to(self.device)
        self._labels = _as_tensor(split.labels).to(self.device)
        self._images = None if split.images is None else _as_tensor(split.images).to(self.device)

    def __len__(self) -> int:
        return len(self.split)

    @property
    def forks(self) -> bool:
        """Whether `batches` starts processes."""
        return self._images is None and self.workers > 0

    @property
    def in_memory(self) -> bool:
        """Whether batches are gathered from memory, and nothing is decoded."""
        return self._images is not None

    def batches(
        self,
        batch_size: int,
        order: Tensor | None = None,
        *,
        keys: Tensor | None = None,
        prepare: Prepare | None = None,
    ) -> Iterator[Batch]:
        """Iterates over the samples.

        Args:
            batch_size: Of each batch; the last may be smaller.
            order: int64 [M], which samples; all in their own order by default.
            keys: int64 [M], what each draws its random numbers by; its position in the split by default.
            prepare: Applied where files are decoded, in the place of `Preprocessing.picture`; a split in memory, whose
                pictures are ready, doesn't ask it.

        Raises:
            CutawayError: A file of the split cannot be decoded any more.
        """
        order = torch.arange(len(self)) if order is None else order
        pairs = torch.stack([order, order if keys is None else keys], dim=1)
        chunks = torch.split(pairs, batch_size) if len(order) else ()
        if self._images is not None:
            for chunk in chunks:
                indices, some_keys = chunk.unbind(1)
                at = indices.to(self.device)
                yield Batch(self._images[at], self._labels[at], indices, some_keys)
        else:
            yield from self._decoded(chunks, prepare)

    def pictures(self, batch: Batch) -> Tensor:
        """uint8 [B, C, h, w]: the batch as the network sees it, before normalisation."""
        if self.prepared:
            return batch.images.permute(0, 3, 1, 2).contiguous()
        return self._preprocess.picture(batch.images).to(torch.uint8)

    def inputs(self, batch: Batch) -> Tensor:
        """float32 [B, C, h, w]: the batch as the network takes it."""
        if self.prepared:
            return self._preprocess.normalise(batch.images.permute(0, 3, 1, 2)).contiguous()
        return self._preprocess(batch.images)  # type: ignore[no-any-return]

    def normalised(self, pictures: Tensor) -> Tensor:
        """float32 [B, C, h, w]: what `pictures` gave, as the network takes it."""
        # As `Preprocess.normalise`, to the bit, but in one piece of memory: new ones cost more than the arithmetic.
        levels = pictures.to(torch.float32, copy=True)
        return levels.div_(255).sub_(self._preprocess.mean).div_(self._preprocess.std)

    def _decoded(self, chunks: tuple[Tensor, ...], prepare: Prepare | None) -> Iterator[Batch]:
        loader: DataLoader[Tensor | CutawayError] = DataLoader(
            _Decoding(self.split, prepare or partial(_picture, preprocessing=self.preprocessing)),
            batch_sampler=[chunk.tolist() for chunk in chunks],
            num_workers=self.workers,
            collate_fn=_collate,
            generator=torch.Generator(),
            pin_memory=self.device.type == "cuda",
        )
        for chunk, images in zip(chunks, loader, strict=True):
            if isinstance(images, CutawayError):
                raise images
            indices, keys = chunk.unbind(1)
            labels = self._labels[indices.to(self.device)]
            yield Batch(images.to(self.device, non_blocking=True), labels, indices, keys)


class _Decoding(Dataset[Tensor | CutawayError]):
    """One sample as pixels of the network's size, or the error that decoding met, carried across processes."""

    def __init__(self, split: Split, prepare: Prepare) -> None:
        self.split = split
        self.prepare = prepare

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, sample: tuple[int, int]) -> Tensor | CutawayError:
        index, key = sample
        try:
            return _as_tensor(self.prepare(self.split.image(index), key))
        except CutawayError as error:
            return error


def _usual_workers(split: Split) -> int:
    if not split.paths or sys.platform != "linux":
        return 0
    return min(_MOST_USUAL_WORKERS, len(os.sched_getaffinity(0)))


def _picture(image: Pixels, key: int, preprocessing: Preprocessing) -> Pixels:
    return preprocessing.picture(image)


def _as_tensor(array: npt.NDArray[Any]) -> Tensor:
    """Shares the array's memory, or copies it where it is read-only, which tensors cannot be."""
    return torch.from_numpy(np.require(array, requirements="W"))


def _collate(samples: list[Tensor | CutawayError]) -> Tensor | CutawayError:
    tensors = []
    for sample in samples:
        if isinstance(sample, CutawayError):
            return sample
        tensors.append(sample)
    return torch.stack(tensors)
