"""Pictures that an inspection runs through a network: a split of a data set, or files that a person named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cutaway.cli.inspecting.splits import SplitName, split_named
from cutaway.cli.pictures import Decoded, decoded, picture_files, refuse_broken
from cutaway.cli.terminal import bars

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cutaway.checkpoints import Restored


class Samples:
    """Samples of a data set.

    Args:
        restored: The bundle whose network and preprocessing they go through.
        data: A data set in place of the bundle's own.
        split_name: Which of its splits; by default test, or valid where there is none.
        pictures: So many of them, spread evenly; by default all.
        device: Where batches are put.
        batch_size: Pictures at a time.
        with_labels: Give pairs of pictures and labels.

    Attributes:
        number: How many there are.
        called: What people call them.
    """

    def __init__(
        self,
        restored: Restored,
        data: str | None,
        split_name: SplitName | None,
        pictures: int | None,
        device: torch.device,
        batch_size: int,
        *,
        with_labels: bool,
    ) -> None:
        import numpy as np

        from cutaway.batches import Feed
        from cutaway.cli.run_data import data_of

        dataset = data_of(restored, data, track=bars)
        split = split_named(dataset, split_name)
        number = min(pictures or len(split), len(split))
        chosen = np.linspace(0, len(split) - 1, number).round().astype(np.int64)
        self._names = [split.called(index) for index in chosen.tolist()]
        split = split.take(chosen)
        self._labels = split.labels
        self._feed = Feed(split, restored.preprocessing, device=device, workers=None)
        self._batch_size = batch_size
        self._with_labels = with_labels
        self.number = len(split)
        self.called = f"{dataset.name}, {'all splits' if split.name == 'all' else split.name}"

    def batches(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        """What the network takes, on its device: float32 [N, C, h, w], and labels int64 [N] where asked for."""
        found = self._feed.batches(self._batch_size)
        for batch in bars(found, "looking into layers", -(-self.number // self._batch_size)):
            inputs = self._feed.inputs(batch)
            yield (inputs, batch.labels) if self._with_labels else inputs

    def about(self) -> dict[str, object]:
        """Which pictures they are, in the order of the batches."""
        return {"data": self.called, "pictures": self._names, "labels": self._labels.tolist()}

    def refuse_broken(self) -> None:
        """Nothing: a picture of a data set that cannot be decoded ends the batches."""


class Files:
    """Picture files that a person named.

    Args:
        restored: The bundle whose network and preprocessing they go through.
        names: Files, folders and patterns.
        device: Where batches are put.
        batch_size: Pictures at a time.

    Attributes:
        number: How many there are, once the batches are over: of those that can be decoded.
    """

    def __init__(self, restored: Restored, names: Sequence[str], device: torch.device, batch_size: int) -> None:
        self._files = picture_files(names)
        self._preprocessing = restored.preprocessing
        self._device = device
        self._batch_size = batch_size
        self._names: list[str] = []
        self._broken: list[Decoded] = []
        self.number = len(self._files)

    def batches(self) -> Iterator[Tensor]:
        """What the network takes, on its device: float32 [N, C, h, w] of those that can be decoded.

        Raises:
            ImageError: None can.
        """
        import numpy as np
        import torch

        for chunk in decoded(self._files, "looking into layers", at_a_time=self._batch_size):
            self._broken += [found for found in chunk if found.pixels is None]
            whole = [(str(found.file), found.pixels) for found in chunk if found.pixels is not None]
            self._names += [name for name, _ in whole]
            if whole:
                seen = np.stack([self._preprocessing.picture(pixels) for _, pixels in whole])
                yield torch.from_numpy(self._preprocessing.normalise(seen)).to(self._device)
        self.number = len(self._names)
        if not self._names:
            self.refuse_broken()

    @property
    def called(self) -> str:
        """What people call them."""
        return "the one named" if self.number == 1 else "those named"

    def about(self) -> dict[str, object]:
        """Which pictures they are, in the order of the batches: those that could be decoded so far."""
        return {"pictures": self._names}

    def refuse_broken(self) -> None:
        """Names each file that could not be decoded.

        Raises:
            ImageError: There is one.
        """
        refuse_broken(self._broken, len(self._files))
