"""The data that a bundle was trained on, found again."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import ValidationError

from cutaway.checkpoints import Restored
from cutaway.cli import complain
from cutaway.datasets import SPLITS, Dataset, load
from cutaway.errors import CutawayError, DataError
from cutaway.progress import Track
from cutaway.settings import in_words
from cutaway.settings.data import DataSettings


def tell_validation() -> None:
    """Says that there are no test pictures, so that figures are of those that the best bundle was chosen by."""
    complain("The data has no test pictures, so these are of its valid split, which the choice of the best bundle saw.")


def data_of(restored: Restored, other: str | None = None, *, track: Track) -> Dataset:
    """Loads a bundle's own data set, or another one of the same classes or some of them.

    The classes of another one are found by their names, and put in the order of the network's outputs. Where the other
    one turns out to be the bundle's own, in another place, it is split as for the training.

    Raises:
        DataError: It cannot be loaded any more, is not what the network was trained on any more, or has other classes.
    """
    configuration = restored.manifest.configuration
    if other is None and "data" not in configuration:
        raise DataError(
            f"{restored.path} has no pictures of its own: it was made of the {restored.manifest.data.source}.",
            hint="Name pictures of the same classes: --data folder:PATH.",
        )
    if other is not None:
        own = _own_elsewhere(restored, other, track)
        if own is not None:
            return own
        return data_named(
            other, restored.classes, seed=_seed(configuration), asked=_split_as(configuration, own=False), track=track
        )
    name = str(configuration["data"])
    try:
        dataset = load(
            name,
            seed=_seed(configuration),
            **_split_as(configuration, own=True),
            # What a bundle says is no reason to fetch anything.
            download=False,
            track=track,
        )
    except CutawayError as error:
        raise DataError(
            f"The data that {restored.path} was trained on cannot be loaded: {error.message}",
            hint=f"Say where it lies now, or name other pictures of the same classes, with --data {_kind_of(name)}.",
        ) from error
    _check_classes(name, dataset, restored.classes)
    if dataset.fingerprint != restored.manifest.data.fingerprint:
        raise DataError(
            f"{name} holds other pictures, labels or splits than when {restored.path} was trained, "
            "so some of its test pictures may be ones that the network learned.",
            hint=f"Bring the pictures back, or accept these: --data {name}",
        )
    return dataset


def _own_elsewhere(restored: Restored, name: str, track: Track) -> Dataset | None:
    """The data of that name, where it is the bundle's own when split as for the training; None where it is not."""
    configuration = restored.manifest.configuration
    own = _split_as(configuration, own=True)
    usual = DataSettings().model_dump(include=set(own)) | _split_as(configuration, own=False)
    if "data" not in configuration or own == usual:
        return None
    try:
        dataset = load(name, seed=_seed(configuration), **own, track=track)
    except CutawayError:
        return None  # the usual way says what is wrong with it
    return dataset if dataset.fingerprint == restored.manifest.data.fingerprint else None


def _kind_of(name: str) -> str:
    kind = name.partition(":")[0]
    return {"folder": "folder:PATH", "csv": "csv:FILE"}.get(kind, "folder:PATH or csv:FILE")


def data_named(
    name: str,
    classes: tuple[str, ...],
    *,
    seed: int = 0,
    asked: Mapping[str, Any] | None = None,
    track: Track,
) -> Dataset:
    """Loads a data set of a network's classes or some of them, in the order of its outputs.

    Args:
        name: Of the data set.
        classes: Label names in output order.
        seed: Of its splits, where it has none of its own.
        asked: What else is asked of it.
        track: Shows progress.

    Raises:
        DataError: It cannot be loaded, or has other classes.
    """
    dataset = load(name, seed=seed, **(asked or {}), track=track)
    if set(dataset.classes) <= set(classes):
        dataset = _relabelled(dataset, classes)
    _check_classes(name, dataset, classes)
    return dataset


def _check_classes(name: str, dataset: Dataset, classes: tuple[str, ...]) -> None:
    if dataset.classes != classes:
        raise DataError(
            f"{name} has the classes {', '.join(dataset.classes[:5])}…; "
            f"the network was trained on {', '.join(classes[:5])}…"
        )


def _relabelled(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    """The same pictures with the labels that they have among all of the classes."""
    places = np.array([classes.index(name) for name in dataset.classes], dtype=np.int64)
    train, valid, test = (replace(dataset.split(name), labels=places[dataset.split(name).labels]) for name in SPLITS)
    return replace(dataset, classes=classes, train=train, valid=valid, test=test)


def _split_as(configuration: Mapping[str, object], *, own: bool) -> dict[str, Any]:
    """What has to be asked of the data for the same splits; of other data than the bundle's own, its usual ones."""
    names = ("valid_share", "test_share", "resplit", "duplicates", "skip_unreadable") if own else ("skip_unreadable",)
    try:
        asked = DataSettings.model_validate({name: configuration[name] for name in names if name in configuration})
    except ValidationError as error:
        sentence, _ = in_words(error)
        raise DataError(f"Of the bundle: {sentence}", hint="Name pictures with --data.") from error
    # Training warned of duplicates already; here they matter where the splits are without them.
    return asked.model_dump(include=set(names)) | {"duplicates": "drop" if asked.duplicates == "drop" else "ignore"}


def _seed(configuration: Mapping[str, object]) -> int:
    seed = configuration.get("seed", 0)
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise DataError(f"The bundle's seed is {reprlib.repr(seed)}, which is none.", hint="Name pictures with --data.")
    return seed
