"""The data that a bundle was trained on, found again."""

from __future__ import annotations

from cutaway.checkpoints import Restored
from cutaway.datasets import Dataset, load
from cutaway.errors import CutawayError, DataError
from cutaway.progress import Track


def data_of(restored: Restored, other: str | None = None, *, track: Track) -> Dataset:
    """Loads a bundle's own data set, or another one with the same classes.

    Raises:
        DataError: It cannot be loaded any more, or has other classes.
    """
    configuration = restored.manifest.configuration
    if other is None and "data" not in configuration:
        raise DataError(
            f"{restored.path} has no pictures of its own: it was made of the {restored.manifest.data.source}.",
            hint="Name pictures of the same classes: --data folder:PATH.",
        )
    name = other or str(configuration["data"])
    try:
        dataset = load(
            name,
            seed=int(str(configuration.get("seed", 0))),
            skip_unreadable=bool(configuration.get("skip_unreadable")),
            track=track,
        )
    except CutawayError as error:
        if other:
            raise
        raise DataError(
            f"The data that {restored.path} was trained on cannot be loaded: {error.message}",
            hint=f"{error.hint} Or name other pictures of the same classes with --data.".strip(),
        ) from error
    if dataset.classes != restored.classes:
        raise DataError(
            f"{name} has the classes {', '.join(dataset.classes[:5])}…; "
            f"the network was trained on {', '.join(restored.classes[:5])}…"
        )
    return dataset


def is_same_data(restored: Restored, dataset: Dataset) -> bool:
    """Whether these are the very pictures and splits that the bundle was trained on."""
    return dataset.fingerprint == restored.manifest.data.fingerprint
