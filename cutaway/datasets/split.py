"""One of a data set's splits, and the fingerprint of several."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

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
        photos: Or decoded pictures of many sizes, each uint8 [H, W, 1 or 3], which wait for the preprocessing.
        keys: What each sample is called within the data set, where it came from a file: `rose/night/1.jpg`.
        columns: What else is known of each sample, by the column's name in small letters: `folder`, and the other
            columns of a CSV list.
        prepared: The images in memory already went through `Preprocessing.picture`. It must not be applied to them a
            second time: with `resize="shorter"` it would enlarge and crop again.
    """

    name: str
    labels: npt.NDArray[np.int64]
    images: Pixels | None = None
    paths: tuple[Path, ...] | None = None
    prepared: bool = False
    photos: tuple[Pixels, ...] | None = None
    keys: tuple[str, ...] | None = None
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = [pictures for pictures in (self.images, self.paths, self.photos) if pictures is not None]
        assert len(given) == 1
        assert all(len(self.labels) == len(part) for part in (given[0], *self.columns.values()))
        assert self.keys is None or len(self.labels) == len(self.keys)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Pixels:
        """The sample at `index` as uint8 [H, W, C], decoded; before preprocessing unless the split is `prepared`."""
        if self.images is not None:
            image: Pixels = self.images[index]
            return image
        if self.photos is not None:
            return self.photos[index]
        assert self.paths is not None
        return decode(self.paths[index])

    def take(self, indices: Sequence[int] | npt.NDArray[np.int64], *, name: str | None = None) -> Split:
        """The samples at `indices`, in that order."""
        chosen = np.asarray(indices, dtype=np.int64)
        places = chosen.tolist()
        return replace(
            self,
            name=name or self.name,
            labels=self.labels[chosen],
            images=None if self.images is None else self.images[chosen],
            paths=None if self.paths is None else tuple(self.paths[index] for index in places),
            photos=None if self.photos is None else tuple(self.photos[index] for index in places),
            keys=None if self.keys is None else tuple(self.keys[index] for index in places),
            columns={column: tuple(values[index] for index in places) for column, values in self.columns.items()},
        )

    def called(self, index: int) -> str:
        """What people call the sample at `index`: its key, or `test[7]`."""
        return f"{self.name}[{index}]" if self.keys is None else self.keys[index]


def joined(splits: Sequence[Split], name: str) -> Split:
    """Several splits as one, one after the other, with the columns that all of them have."""
    filled = [split for split in splits if len(split)] or list(splits[:1])
    labels = np.concatenate([split.labels for split in filled])
    keys = [split.keys for split in filled if split.keys is not None]
    shared = [column for column in filled[0].columns if all(column in split.columns for split in filled)]
    whole: dict[str, Any] = {
        "keys": tuple(key for part in keys for key in part) if len(keys) == len(filled) else None,
        "columns": {column: tuple(value for split in filled for value in split.columns[column]) for column in shared},
        "prepared": filled[0].prepared,
    }
    assert len({split.prepared for split in filled}) == 1
    paths = [split.paths for split in filled if split.paths is not None]
    if len(paths) == len(filled):
        return Split(name, labels, paths=tuple(path for part in paths for path in part), **whole)
    images = [split.images for split in filled if split.images is not None]
    if len(images) == len(filled) and len({part.shape[1:] for part in images}) == 1:
        return Split(name, labels, np.concatenate(images), **whole)
    photos = tuple(split.image(index) for split in filled for index in range(len(split)))
    return Split(name, labels, photos=photos, **whole)


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
        elif split.photos is not None:
            for photo in split.photos:
                digest.update(f"\npixels {list(photo.shape)}\n".encode())
                digest.update(np.ascontiguousarray(photo).data)
        else:
            digest.update(b"\nfiles\n")
            digest.update(b"".join(file_hashes[position]))
    return digest.hexdigest()
