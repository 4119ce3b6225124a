"""Pictures in files, before they are split: what a folder or a CSV list names, read once and checked."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cutaway.datasets.cache import known_to_be_whole, remember_as_whole
from cutaway.datasets.dataset import Dataset
from cutaway.datasets.duplicates import settle
from cutaway.datasets.naming import natural_order
from cutaway.datasets.options import Options
from cutaway.datasets.split import SPLITS, Split, fingerprint
from cutaway.datasets.splitting import Splitting, stratified
from cutaway.datasets.threads import in_threads
from cutaway.errors import DataError, ImageError
from cutaway.images import decode, read_bytes
from cutaway.progress import Track

NUM_NAMED = 5


@dataclass(frozen=True)
class Picture:
    """A file with its label.

    Attributes:
        path: The file.
        key: What the picture is called within the data set, wherever that lies; it decides the split.
        label: The name of its class.
        split: `train`, `valid` or `test` where the data says so, else None.
        columns: What else the data says of it, the same columns for every picture.
    """

    path: Path
    key: str
    label: str
    split: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


def assemble(
    name: str,
    source: str,
    pictures: Iterable[Picture],
    *,
    options: Options,
    track: Track,
    num_ignored: int = 0,
) -> Dataset:
    """Makes sure that every picture can be decoded, and splits what the data leaves unsplit.

    Pictures are decoded to be sure of them only where that was not done before for the same bytes.

    Args:
        name: The data set's name, without a path.
        source: A line for people, without a path.
        pictures: In any order.
        options: How they are split, and what is done about duplicates and files that cannot be decoded.
        track: Shows progress.
        num_ignored: Files passed over because their suffix is no picture's.

    Raises:
        DataError: If a picture cannot be decoded, a class has no picture to train on, or there are too few of either.
    """
    ordered = sorted(pictures, key=lambda picture: picture.key)
    found, hashes, num_skipped = _readable(name, ordered, options.skip_unreadable, track)
    classes = natural_order({picture.label for picture in ordered})
    if len(classes) < 2:
        only = f"only one class, {classes[0]!r}" if classes else "no pictures"
        raise DataError(f"{name} has {only}.", hint="A classifier needs pictures of at least two classes.")
    membership = _membership(name, found, classes, options.splitting)
    index_of = {label: index for index, label in enumerate(classes)}
    splits, contents = [], []
    for split in SPLITS:
        indices = membership[split]
        labels = np.array([index_of[found[index].label] for index in indices], dtype=np.int64)
        splits.append(_split(split, labels, [found[index] for index in indices]))
        contents.append([hashes[index] for index in indices])
    settled = settle(
        name, splits, contents, lambda split, index: found[membership[split][index]].key, options.duplicates
    )
    train, valid, test = settled.splits
    digest = fingerprint(classes, settled.splits, settled.contents)
    return Dataset(
        name, classes, train, valid, test, digest, source, False, num_skipped, num_ignored, settled.duplicates
    )


def named(problems: Sequence[str]) -> str:
    """The first few of a list, and how many more there are."""
    rest = len(problems) - NUM_NAMED
    return "; ".join(problems[:NUM_NAMED]) + (f"; and {rest} more" if rest > 0 else "")


def _split(name: str, labels: npt.NDArray[np.int64], pictures: Sequence[Picture]) -> Split:
    return Split(
        name,
        labels,
        paths=tuple(picture.path for picture in pictures),
        keys=tuple(picture.key for picture in pictures),
        columns={
            column: tuple(picture.columns[column] for picture in pictures)
            for column in (pictures[0].columns if pictures else ())
        },
    )


def _readable(
    name: str, pictures: Sequence[Picture], skip_unreadable: bool, track: Track
) -> tuple[list[Picture], list[bytes], int]:
    """The pictures that can be decoded, the SHA-256 of each, and how many cannot be."""
    hashes = list(track(in_threads(_hash_or_problem, pictures), "Reading pictures", len(pictures)))
    present = [picture for picture, outcome in zip(pictures, hashes, strict=True) if isinstance(outcome, bytes)]
    outcomes = hashes
    if not known_to_be_whole(outcome for outcome in hashes if isinstance(outcome, bytes)):
        checked = iter(list(track(in_threads(_problem, present), "Checking pictures", len(present))))
        outcomes = [next(checked) or outcome if isinstance(outcome, bytes) else outcome for outcome in hashes]
    problems = [outcome for outcome in outcomes if isinstance(outcome, str)]
    if problems and not skip_unreadable:
        raise DataError(
            f"{len(problems)} of {len(pictures)} pictures in {name} cannot be read: {named(problems)}.",
            hint="Repair or remove them, or go on without them: --skip-unreadable.",
        )
    whole = [(picture, out) for picture, out in zip(pictures, outcomes, strict=True) if isinstance(out, bytes)]
    remember_as_whole(digest for _, digest in whole)
    return [picture for picture, _ in whole], [digest for _, digest in whole], len(problems)


def _hash_or_problem(picture: Picture) -> bytes | str:
    try:
        return hashlib.sha256(read_bytes(picture.path)).digest()
    except ImageError as error:
        return _told(picture, error)


def _problem(picture: Picture) -> str | None:
    """Why the picture cannot be decoded; None where it can."""
    try:
        decode(picture.path)
    except ImageError as error:
        return _told(picture, error)
    return None


def _told(picture: Picture, error: ImageError) -> str:
    names = (f"{str(picture.path)!r} ", f"{picture.path.name!r} ")
    reason = next((error.message.removeprefix(name) for name in names if error.message.startswith(name)), error.message)
    return f"{picture.key} ({reason.rstrip('.')})"


def _membership(
    name: str, pictures: Sequence[Picture], classes: Sequence[str], splitting: Splitting
) -> dict[str, Sequence[int]]:
    """Split name -> indices of its pictures, ascending."""
    index_of = {label: index for index, label in enumerate(classes)}
    own = set() if splitting.again else {picture.split for picture in pictures} & {"valid", "test"}
    shares = splitting.shares(name, [split for split in own if split])
    pool = [index for index, picture in enumerate(pictures) if picture.split not in own]
    present = Counter(pictures[index].label for index in pool)
    absent = [label for label in classes if label not in present]
    if absent:
        raise DataError(
            f"{name} has no readable picture to train on for {named([repr(label) for label in absent])}.",
            hint="Add pictures of every class, or remove the class.",
        )
    labels = np.array([index_of[pictures[index].label] for index in pool], dtype=np.int64)
    chosen = stratified(labels, [pictures[index].key for index in pool], shares, seed=splitting.seed)
    membership: dict[str, Sequence[int]] = {
        split: [index for index, picture in enumerate(pictures) if picture.split == split and split in own]
        for split in SPLITS
    }
    for split, indices in chosen.items():
        membership[split] = [pool[index] for index in indices.tolist()]
    return membership
