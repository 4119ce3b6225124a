"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cutaway.datasets import builtin
from cutaway.datasets.csv_lists import load_csv
from cutaway.datasets.dataset import Dataset
from cutaway.datasets.folders import load_folder
from cutaway.errors import DataError
from cutaway.progress import Track, silent

_BUILTIN: dict[str, Callable[[int, bool], Dataset]] = {
    "fashion-mnist-sample": builtin.load_fashion_mnist_sample,
    "fashion-mnist": builtin.load_fashion_mnist,
    "mnist": builtin.load_mnist,
    "cifar10": builtin.load_cifar10,
}


def names() -> tuple[str, ...]:
    """What `load` understands."""
    return (*_BUILTIN, "folder:PATH", "csv:FILE")


def load(
    name: str, *, seed: int = 0, skip_unreadable: bool = False, download: bool = True, track: Track = silent
) -> Dataset:
    """Loads a data set and splits it.

    Args:
        name: `fashion-mnist-sample`, `fashion-mnist`, `mnist`, `cifar10`, `folder:PATH` or `csv:FILE`.
        seed: Decides which samples are set aside where the data does not say so itself.
        skip_unreadable: Go on without the files that cannot be decoded, instead of refusing.
        download: Whether a data set that is not on this machine may be fetched.
        track: Shows progress.

    Raises:
        DataError: If the name is unknown, or the data is missing, unreadable or unfit for classification.
    """
    if name in _BUILTIN:
        return _BUILTIN[name](seed, download)
    kind, _, place = name.partition(":")
    if kind in ("folder", "csv") and place:
        load_files = load_folder if kind == "folder" else load_csv
        return load_files(Path(place), seed=seed, skip_unreadable=skip_unreadable, track=track)
    raise DataError(f"There is no data set {name!r}.", hint=f"Choose one of {', '.join(names())}.")
