"""Before the first step: the data, the network's input, and whether a run may go on with these settings."""

from __future__ import annotations

import math

from cutaway.checkpoints import Stored
from cutaway.datasets import Dataset, load, statistics
from cutaway.errors import BundleError, DataError
from cutaway.networks import NetworkSpec, usual_image_size
from cutaway.preprocessing import Preprocessing
from cutaway.progress import Track, silent
from cutaway.settings import FREE_TO_CHANGE, TrainSettings

_LARGEST_SMALL_SIDE = 64


def load_data(settings: TrainSettings, *, track: Track = silent) -> Dataset:
    """The data set that the settings name, checked for what training needs.

    Raises:
        DataError: It cannot be loaded, or a split or the list of classes is too small to train on.
    """
    dataset = load(settings.data, seed=settings.seed, skip_unreadable=settings.skip_unreadable, track=track)
    if len(dataset.classes) < 2:
        raise DataError(f"{settings.data} has only the class '{dataset.classes[0]}'; a classifier needs two or more.")
    for split in (dataset.train, dataset.valid):
        if len(split) == 0:
            raise DataError(f"The {split.name} split of {settings.data} is empty.", hint="Add pictures to each class.")
    return dataset


def describe_input(settings: TrainSettings, dataset: Dataset, *, track: Track = silent) -> Preprocessing:
    """Decides the network's input: its size, its channels, and the statistics of the training split."""
    images = dataset.train.images
    wanted = settings.image_size or usual_image_size(settings.network)
    if images is not None:
        color, resize, resize_to = ("grey" if images.shape[3] == 1 else "rgb"), "stretch", None
        size = (wanted, wanted) if wanted else (images.shape[1], images.shape[2])
    else:
        side = wanted or _LARGEST_SMALL_SIDE
        # The shorter side a seventh above the crop, as torchvision's references do at 224.
        color, resize, resize_to, size = "rgb", "shorter", math.ceil(side * 8 / 7), (side, side)
    channels = 1 if color == "grey" else 3
    plain = Preprocessing.model_validate(
        {
            "size": size,
            "color": color,
            "resize": resize,
            "resize_to": resize_to,
            "mean": (0.0,) * channels,
            "std": (1.0,) * channels,
        }
    )
    mean, std = statistics(dataset.train, plain, track=track)
    return Preprocessing.model_validate(plain.model_dump() | {"mean": mean, "std": std})


def describe_network(settings: TrainSettings, dataset: Dataset, preprocessing: Preprocessing) -> NetworkSpec:
    """The network that the settings name, for this data and input."""
    return NetworkSpec(
        name=settings.network,
        num_classes=len(dataset.classes),
        input_shape=preprocessing.input_shape,
        arguments=settings.network_arguments,
    )


def check_may_go_on(settings: TrainSettings, dataset: Dataset, stored: Stored) -> None:
    """Compares settings and data with those that a run was begun with.

    Raises:
        BundleError: Going on would give another result than the uninterrupted run; says in which settings they differ.
    """
    before = stored.manifest.configuration
    now = settings.model_dump(mode="json", exclude={"out"})
    differing = [
        f"{name} was {before.get(name)!r}, now {now[name]!r}"
        for name in now
        if name not in FREE_TO_CHANGE | {"data", "epochs"} and before.get(name) != now[name]
    ]
    if stored.manifest.data.fingerprint != dataset.fingerprint:
        differing.append(f"the data were {stored.manifest.data.source}, now they are other pictures or labels")
    if before.get("epochs") != settings.epochs and settings.schedule == "cosine":
        differing.append(
            f"epochs was {before.get('epochs')}, now {settings.epochs}, and the cosine schedule ends there"
        )
    if differing:
        raise BundleError(
            f"The run at {stored.path.parent.parent} was begun with other settings: {'; '.join(differing)}.",
            hint="Give its own settings to go on with it, or another --out to begin a new run.",
        )
