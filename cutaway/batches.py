"""Batches of one split on one device: gathered from memory, or decoded by workers; always as pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cutaway.datasets import Split
from cutaway.errors import CutawayError
from cutaway.preprocessing import Preprocessing
from cutaway.preprocessing.tensors import Preprocess


@dataclass(frozen=True)
class Batch:
    """Some samples of a split.

    Attributes:
        images: uint8 [B, H, W, C], on the feed's device.
        labels: int64 [B], on the feed's device.
        indices: int64 [B], positions in the split, on the CPU.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor


class Feed:
    """Gives a split's batches in any order.

    A split in memory stays there as one uint8 tensor, on the device itself. A split of files is decoded and cut to the
    network's input by `workers` processes while the network works. Nothing here draws from torch's global generator,
    and the pixels of a sample don't depend on the number of workers.

    Args:
        split: The samples.
        preprocessing: Applied as far as pixels go to samples that come from files; those in memory pass as they are.
        device: Where batches are put.
        workers: Processes that decode files; 0 decodes in this one.
    """

    def __init__(
        self, split: Split, preprocessing: Preprocessing, *, device: torch.device | str = "cpu", workers: int = 0
    ) -> None:
        self.split = split
        self.preprocessing = preprocessing
        self.device = torch.device(device)
        self.workers = workers
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

    def batches(self, batch_size: int, order: Tensor | None = None) -> Iterator[Batch]:
        """Iterates over the samples named by `order` (int64 [M]; all in their own order by default).

        The last batch may be smaller.

        Raises:
            CutawayError: A file of the split cannot be decoded any more.
        """
        order = torch.arange(len(self)) if order is None else order
        chunks = torch.split(order, batch_size) if len(order) else ()
        if self._images is not None:
            for indices in chunks:
                at = indices.to(self.device)
                yield Batch(self._images[at], self._labels[at], indices)
        else:
            yield from self._decoded(chunks)

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

    def _decoded(self, chunks: tuple[Tensor, ...]) -> Iterator[Batch]:
        loader: DataLoader[Tensor | CutawayError] = DataLoader(
            _Decoding(self.split, self.preprocessing),
            batch_sampler=[chunk.tolist() for chunk in chunks],
            num_workers=self.workers,
            collate_fn=_collate,
            generator=torch.Generator(),
            pin_memory=self.device.type == "cuda",
        )
        for indices, images in zip(chunks, loader, strict=True):
            if isinstance(images, CutawayError):
                raise images
            yield Batch(images.to(self.device, non_blocking=True), self._labels[indices.to(self.device)], indices)


class _Decoding(Dataset[Tensor | CutawayError]):
    """One sample as pixels of the network's size, or the error that decoding met, carried across processes."""

    def __init__(self, split: Split, preprocessing: Preprocessing) -> None:
        self.split = split
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> Tensor | CutawayError:
        try:
            return torch.from_numpy(self.preprocessing.picture(self.split.image(index)))
        except CutawayError as error:
            return error


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
