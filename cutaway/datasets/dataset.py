"""What a data set is to the rest of cutaway: three splits, the names of the classes, and a fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cutaway.datasets.objects import Arrays, MapDataset, gather_arrays, gather_items
from cutaway.datasets.split import SPLITS, Split
from cutaway.errors import DataError


@dataclass(frozen=True)
class Duplicates:
    """Pictures that stand in more than one split, or more than once in the training split.

    Attributes:
        num_pictures: Of train and valid, those that a later split holds too.
        num_contradictions: Of these, those that have another label there.
        first: The first few, each as the names of both samples.
        dropped: Whether they were taken out of the earlier split.
        num_copies: Of the training split as it is trained on, those that stand in it before.
        num_relabelled: Of these, those that have another label than the first of them.
    """

    num_pictures: int
    num_contradictions: int
    first: tuple[tuple[str, str], ...]
    dropped: bool
    num_copies: int = 0
    num_relabelled: int = 0


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set for classification.

    Attributes:
        name: What `load` was asked for, without a path: `fashion-mnist`, `folder:flowers`.
        classes: The names of the classes, in the order of the network's outputs.
        train: For fitting.
        valid: For choosing.
        test: For reporting.
        fingerprint: SHA-256 over classes, splits, labels and pixels (of files: their bytes, wherever they lie).
        source: A line for people on where the data came from, without a path.
        in_memory: Whether the pixels lie in memory already.
        num_skipped: Unreadable files that were left out because the caller asked for it.
        num_ignored: Files of a folder that are no images by their suffix.
        duplicates: Pictures that stand in more than one split; None where nobody looked.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    valid: Split
    test: Split
    fingerprint: str
    source: str
    in_memory: bool
    num_skipped: int = 0
    num_ignored: int = 0
    duplicates: Duplicates | None = None

    @classmethod
    def from_arrays(
        cls,
        train: Arrays,
        valid: Arrays | None = None,
        test: Arrays | None = None,
        *,
        classes: Sequence[str] | None = None,
        name: str = "arrays",
        valid_share: float = 0.1,
        seed: int = 0,
    ) -> Dataset:
        """A data set of arrays or tensors, each split a pair (images, labels).

        Images are uint8 [N, H, W] or [N, H, W, 1 or 3], or floats from 0 to 1 of the same shapes; labels are whole
        numbers [N] from 0.

        Args:
            train: For fitting.
            valid: For choosing; without it a share of `train` is set aside, the same for the same seed.
            test: For reporting; without it there is no test.
            classes: Names in the order of the labels; by default the numbers themselves.
            name: What the data set is called in bundles.
            valid_share: Of `train`, where there is no `valid`.
            seed: Decides what is set aside.

        Raises:
            DataError: Shapes, values or labels are not as above.

        Example:
            >>> pictures = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
            >>> labels = np.arange(40) % 2
            >>> Dataset.from_arrays((pictures, labels), classes=["even", "odd"]).counts()
            {'train': (18, 18), 'valid': (2, 2), 'test': (0, 0)}
        """
        gathered = gather_arrays((train, valid, test), classes, name, valid_share, seed)
        return cls(**vars(gathered))

    @classmethod
    def from_torch(
        cls,
        train: MapDataset,
        valid: MapDataset | None = None,
        test: MapDataset | None = None,
        *,
        classes: Sequence[str] | None = None,
        name: str | None = None,
        valid_share: float = 0.1,
        seed: int = 0,
    ) -> Dataset:
        """A data set of map-style data sets, as torch and torchvision have them: anything with a length and an index.

        Each sample is a pair (picture, label): a PIL image, a tensor [C, H, W] or an array [H, W] or [H, W, C], of
        uint8 or of floats from 0 to 1. Every sample is read once, and pictures are kept as uint8, so leave random
        transforms and normalisation out: the one goes into `train(transform=…)`, the other cutaway does itself. Where
        pictures have many sizes, they are resized and cropped as those of a folder are. Pictures that don't fit into
        memory belong in a folder or a CSV list.

        Args:
            train: For fitting.
            valid: For choosing; without it a share of `train` is set aside, the same for the same seed.
            test: For reporting; without it there is no test.
            classes: Names in the order of the labels; by default the data set's own `classes`, or the numbers.
            name: What the data set is called in bundles; by default the name of its class.
            valid_share: Of `train`, where there is no `valid`.
            seed: Decides what is set aside.

        Raises:
            DataError: Samples are not as above, or come out different each time.
        """
        gathered = gather_items((train, valid, test), classes, name, valid_share, seed)
        return cls(**vars(gathered))

    def split(self, name: str) -> Split:
        """The split called `train`, `valid` or `test`.

        Raises:
            DataError: If there is no such split.
        """
        splits = {"train": self.train, "valid": self.valid, "test": self.test}
        if name not in splits:
            raise DataError(f"There is no split {name!r}.", hint=f"Choose one of {', '.join(SPLITS)}.")
        return splits[name]

    def counts(self) -> dict[str, tuple[int, ...]]:
        """Split name -> samples of each class, in the order of `classes`."""
        return {
            name: tuple(np.bincount(self.split(name).labels, minlength=len(self.classes)).tolist()) for name in SPLITS
        }
