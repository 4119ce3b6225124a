"""What a data set is to the rest of cutaway: three splits, the names of the classes, and a fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cutaway.errors import DataError
from cutaway.images import Pixels, decode

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """One of `train`, `valid` and `test`.

    Attributes:
        name: `train`, `valid` or `test`.
        labels: int64 [N], indices into the data set's classes.
        images: uint8 [N, H, W, C] with C 1 or 3, where the split lies in memory.
        paths: One file per sample where it does not; `image` decodes on demand.
        prepared: The images in memory already went through `Preprocessing.picture`. It must not be applied to them a
            second time: with `resize="shorter"` it would enlarge and crop again.
    """

    name: str
    labels: npt.NDArray[np.int64]
    images: Pixels | None = None
    paths: tuple[Path, ...] | None = None
    prepared: bool = False

    def __post_init__(self) -> None:
        assert (self.images is None) != (self.paths is None)
        assert len(self.labels) == len(self.images if self.images is not None else self.paths or ())

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Pixels:
        """The sample at `index` as uint8 [H, W, C], decoded; before preprocessing unless the split is `prepared`."""
        if self.images is not None:
            image: Pixels = self.images[index]
            return image
        assert self.paths is not None
        return decode(self.paths[index])

    def take(self, indices: Sequence[int] | npt.NDArray[np.int64], *, name: str | None = None) -> Split:
        """The samples at `indices`, in that order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Split(
            name or self.name,
            self.labels[chosen],
            None if self.images is None else self.images[chosen],
            None if self.paths is None else tuple(self.paths[index] for index in chosen.tolist()),
            self.prepared,
        )


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


def fingerprint(classes: Sequence[str], splits: Sequence[Split], file_hashes: Sequence[Sequence[bytes]] = ()) -> str:
    """SHA-256 in hex over the classes and, for each split in order, its name, its labels and its pixels.

    Args:
        classes: Names in output order.
        splits: The splits in order.
        file_hashes: For splits of files: for each split, the SHA-256 of each file's bytes.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps(list(classes), ensure_ascii=True).encode())
    for position, split in enumerate(splits):
        digest.update(f"\n{split.name} {len(split)}\n".encode())
        digest.update(split.labels.astype("<i8").tobytes())
        if split.images is not None:
            digest.update(f"\npixels {list(split.images.shape)}\n".encode())
            digest.update(np.ascontiguousarray(split.images).data)
        else:
            digest.update(b"\nfiles\n")
            digest.update(b"".join(file_hashes[position]))
    return digest.hexdigest()
