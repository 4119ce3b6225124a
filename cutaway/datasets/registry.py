"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cutaway.datasets import builtin
from cutaway.datasets.csv_lists import load_csv
from cutaway.datasets.dataset import Dataset
from cutaway.datasets.duplicates import OnDuplicates
from cutaway.datasets.folders import load_folder
from cutaway.datasets.options import Options
from cutaway.datasets.splitting import SET_ASIDE, Splitting
from cutaway.errors import DataError
from cutaway.progress import Track, silent

_BUILTIN: dict[str, Callable[[Options, bool], Dataset]] = {
    "fashion-mnist-sample": builtin.load_fashion_mnist_sample,
    "fashion-mnist": builtin.load_fashion_mnist,
    "mnist": builtin.load_mnist,
    "cifar10": builtin.load_cifar10,
}


def names() -> tuple[str, ...]:
    """What `load` understands."""
    return (*_BUILTIN, "folder:PATH", "csv:FILE")


def load(
    name: str,
    *,
    seed: int = 0,
    valid_share: float = SET_ASIDE,
    test_share: float = SET_ASIDE,
    resplit: bool = False,
    duplicates: OnDuplicates = "ignore",
    skip_unreadable: bool = False,
    download: bool = True,
    track: Track = silent,
) -> Dataset:
    """Loads a data set and splits it.

    Args:
        name: `fashion-mnist-sample`, `fashion-mnist`, `mnist`, `cifar10`, `folder:PATH` or `csv:FILE`.
        seed: Decides which samples are set aside where the data does not say so itself.
        valid_share: Share of the samples to set aside for validation, where the data does not say which.
        test_share: Likewise for the test; 0 for none.
        resplit: Pool what the data splits itself, and split all of it by the shares.
        duplicates: Whether to `warn` of pictures that stand in more than one split (see `Dataset.duplicates`), to
            `drop` them from the earlier split, to refuse with an `error`, or not to look.
        skip_unreadable: Go on without the files that cannot be decoded, instead of refusing.
        download: Whether a data set that is not on this machine may be fetched.
        track: Shows progress.

    Raises:
        DataError: If the name is unknown, or the data is missing, unreadable or unfit for classification.
    """
    options = Options(Splitting(seed, valid_share, test_share, resplit), duplicates, skip_unreadable)
    if name in _BUILTIN:
        return _BUILTIN[name](options, download)
    kind, _, place = name.partition(":")
    if kind in ("folder", "csv") and place:
        load_files = load_folder if kind == "folder" else load_csv
        return load_files(Path(place), options=options, track=track)
    raise DataError(f"There is no data set {name!r}.", hint=_meant(name) or f"Choose one of {', '.join(names())}.")


def _meant(name: str) -> str:
    """What to write where the name is that of a folder or list that is there; else nothing."""
    with suppress(OSError):  # such as of a name that is too long for any file
        if name and Path(name).is_dir():
            return f"For the folder of that name, write folder:{name}."
        if Path(name).suffix.casefold() == ".csv" and Path(name).is_file():
            return f"For the list of that name, write csv:{name}."
    return ""
