"""The data that a bundle was trained on, found again."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping

from cutaway.checkpoints import Restored
from cutaway.datasets import Dataset, load
from cutaway.errors import CutawayError, DataError
from cutaway.progress import Track


def data_of(restored: Restored, other: str | None = None, *, track: Track) -> Dataset:
    """Loads a bundle's own data set, or another one with the same classes.

    Raises:
        DataError: It cannot be loaded any more, is not what the network was trained on any more, or has other classes.
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
            seed=_seed(configuration),
            skip_unreadable=bool(configuration.get("skip_unreadable")),
            # What a bundle says is no reason to fetch anything.
            download=other is not None,
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
    if other is None and dataset.fingerprint != restored.manifest.data.fingerprint:
        raise DataError(
            f"{name} holds other pictures, labels or splits than when {restored.path} was trained, "
            "so some of its test pictures may be ones that the network learned.",
            hint=f"Bring the pictures back, or accept these: --data {name}",
        )
    return dataset


def _seed(configuration: Mapping[str, object]) -> int:
    seed = configuration.get("seed", 0)
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise DataError(f"The bundle's seed is {reprlib.repr(seed)}, which is none.", hint="Name pictures with --data.")
    return seed
