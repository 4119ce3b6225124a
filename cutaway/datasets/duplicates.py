"""Pictures that stand in more than one split, by content: a test that holds training pictures measures memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cutaway.datasets.dataset import Dataset, Duplicates
from cutaway.datasets.split import SPLITS, Split, fingerprint
from cutaway.errors import DataError

OnDuplicates = Literal["ignore", "warn", "drop", "error"]
Name = Callable[[str, int], str]
NUM_NAMED = 3


@dataclass(frozen=True)
class Settled:
    """Splits after what was asked for is done about duplicates.

    Attributes:
        splits: Train, valid and test.
        contents: For each split, the hash of each picture's content; empty where nobody asked.
        duplicates: What was found; None where nobody asked.
    """

    splits: list[Split]
    contents: list[list[bytes]]
    duplicates: Duplicates | None


def settle(
    title: str, splits: Sequence[Split], contents: Sequence[Sequence[bytes]], name: Name, policy: OnDuplicates
) -> Settled:
    """Finds the pictures of train that valid or test hold too, and those of valid that test holds too.

    Copies within train are counted and left as they are, whatever the policy.

    Args:
        title: The data set's name.
        splits: Train, valid and test.
        contents: For each split, a hash of each picture's content.
        name: What people call the sample at an index of a split.
        policy: `warn` leaves the splits as they are, `drop` takes the pictures found out of the earlier split, so that
            the test stays whole, and `error` refuses. `ignore` does not look.

    Raises:
        DataError: There are duplicates and they were not to be; or a class has no other training picture.
    """
    if policy == "ignore":
        return Settled(list(splits), [list(hashes) for hashes in contents], None)
    later: dict[bytes, tuple[int, int]] = {}
    found: list[tuple[int, int, tuple[int, int]]] = []
    for at in reversed(range(len(splits))):
        twins = [(index, later[content]) for index, content in enumerate(contents[at]) if content in later]
        found += [(at, index, twin) for index, twin in twins]
        for index, content in enumerate(contents[at]):
            later.setdefault(content, (at, index))
    found.sort()
    doomed = {index for at, index, _ in found if at == 0} if policy == "drop" else set()
    copies = _copies(splits[0], contents[0], doomed)
    told = Duplicates(
        num_pictures=len(found),
        num_contradictions=sum(splits[at].labels[i] != splits[there].labels[j] for at, i, (there, j) in found),
        first=tuple(
            (name(splits[at].name, index), name(splits[there].name, twin))
            for at, index, (there, twin) in found[:NUM_NAMED]
        ),
        dropped=policy == "drop",
        num_copies=len(copies),
        num_relabelled=sum(splits[0].labels[index] != splits[0].labels[first] for index, first in copies),
    )
    if found and policy == "error":
        pairs = "; ".join(f"{one} = {other}" for one, other in told.first)
        raise DataError(
            f"{len(found)} pictures of {title} stand in more than one split: {pairs}"
            + (f"; and {len(found) - len(told.first)} more." if len(found) > len(told.first) else "."),
            hint="Remove the copies, or leave them out of training: --duplicates drop.",
        )
    if not found or policy == "warn":
        return Settled(list(splits), [list(hashes) for hashes in contents], told)
    kept_splits, kept_contents = [], []
    for at, split in enumerate(splits):
        doomed = {index for where, index, _ in found if where == at}
        kept = [index for index in range(len(split)) if index not in doomed]
        kept_splits.append(split.take(kept) if doomed else split)
        kept_contents.append([contents[at][index] for index in kept])
    before, after = set(splits[0].labels.tolist()), set(kept_splits[0].labels.tolist())
    if before != after:
        raise DataError(
            f"Without its duplicates, {title} has no training picture left for {len(before - after)} of "
            f"{len(before)} classes.",
            hint="Remove the copies from the other splits, or add pictures.",
        )
    return Settled(kept_splits, kept_contents, told)


def _copies(split: Split, contents: Sequence[bytes], left_out: Collection[int]) -> list[tuple[int, int]]:
    """Indices of pictures that stand in a split before, each with the first that it is a copy of."""
    first: dict[bytes, int] = {}
    pairs = [(index, first.setdefault(contents[index], index)) for index in range(len(split)) if index not in left_out]
    return [(index, original) for index, original in pairs if index != original]


def settled(dataset: Dataset, policy: OnDuplicates) -> Dataset:
    """A data set that a person made of objects, after what was asked for is done about its duplicates.

    Returns:
        The same where there are none, where they were looked for already, or where the pictures lie in files.
    """
    splits = [dataset.split(name) for name in SPLITS]
    if policy == "ignore" or dataset.duplicates is not None or any(split.paths is not None for split in splits):
        return dataset
    contents = [content_hashes(split) for split in splits]
    found = settle(dataset.name, splits, contents, lambda split, index: f"{split}[{index}]", policy)
    if found.duplicates is None or not (found.duplicates.num_pictures or found.duplicates.num_copies):
        return dataset
    train, valid, test = found.splits
    changed = found.duplicates.dropped and found.duplicates.num_pictures
    digest = fingerprint(dataset.classes, found.splits) if changed else dataset.fingerprint
    return replace(dataset, train=train, valid=valid, test=test, fingerprint=digest, duplicates=found.duplicates)


def content_hashes(split: Split) -> list[bytes]:
    """A hash of each picture's pixels, of a split in memory."""
    if split.photos is not None:
        return [
            hashlib.sha256(repr(photo.shape).encode() + np.ascontiguousarray(photo).tobytes()).digest()
            for photo in split.photos
        ]
    assert split.images is not None
    if len(split) == 0:
        return []
    pixels = np.ascontiguousarray(split.images).data.cast("B")
    size = len(pixels) // len(split)
    return [hashlib.sha256(pixels[start : start + size]).digest() for start in range(0, len(pixels), size)]
