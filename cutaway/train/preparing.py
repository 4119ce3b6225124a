"""Before the first step: the data, the network's input, and whether a run may go on with these settings."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch

from cutaway.checkpoints import Stored
from cutaway.datasets import Dataset, load, statistics
from cutaway.errors import BundleError, DataError, SettingsError
from cutaway.networks import NetworkSpec, build_on_meta, usual_image_size
from cutaway.preprocessing import Preprocessing
from cutaway.progress import Track, silent
from cutaway.settings import FREE_TO_CHANGE, NEVER_TO_CHANGE, TrainSettings

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
    """The network that the settings name, for this data and input.

    Raises:
        SettingsError: It normalises over a batch, and batches are to hold one picture.
    """
    spec = NetworkSpec(
        name=settings.network,
        num_classes=len(dataset.classes),
        input_shape=preprocessing.input_shape,
        arguments=settings.network_arguments,
    )
    if min(settings.batch_size, len(dataset.train)) == 1:
        try:
            build_on_meta(spec).train()(torch.empty(1, *spec.input_shape, device="meta"))
        except ValueError as error:
            raise SettingsError(
                f"{settings.network} has batch norm, which has no statistics over a batch of one picture.",
                hint="Give a --batch-size of 2 or more, or a network without batch norm.",
            ) from error
    return spec


def check_may_go_on(
    settings: TrainSettings, dataset: Dataset, stored: Stored, override: Collection[str] = ()
) -> tuple[str, ...]:
    """Compares settings and data with those that a run was begun with.

    Args:
        settings: Of the training from here on.
        dataset: Likewise.
        stored: The bundle to go on from.
        override: Names of settings that may differ all the same.

    Returns:
        What differs and may, in words.

    Raises:
        BundleError: Going on would give another result than the uninterrupted run; says in which settings they differ.
        SettingsError: Something is to be overridden that cannot be.
    """
    unknown = [name for name in override if name not in TrainSettings.model_fields]
    if unknown:
        raise SettingsError(f"There is no setting named '{unknown[0]}' to override.")
    fixed = [name for name in override if name in NEVER_TO_CHANGE]
    if fixed:
        raise SettingsError(
            f"'{fixed[0]}' cannot be overridden: the weights and the optimizer's state would not fit.",
            hint="Begin a new run with another --out.",
        )
    differing = _differences(settings, dataset, stored)
    refused = {name: pair for name, pair in differing.items() if name not in override}
    if refused:
        width = max(len(name) for name in refused)
        table = "\n".join(f"  {name:{width}}  was {was}, now {now}" for name, (was, now) in refused.items())
        may = [name for name in refused if name not in NEVER_TO_CHANGE]
        overriding = f", or change it from here on with --override {' '.join(may)}" if may == list(refused) else ""
        cosine = " The cosine schedule ends with its last epoch." if "epochs" in refused else ""
        raise BundleError(
            f"The run at {stored.path.parent.parent} was begun with other settings:\n{table}\n"
            f"Going on would not give what the uninterrupted run gives.{cosine}",
            hint=f"Give its own settings, or another --out{overriding}.",
        )
    return tuple(f"{name} was {was}, now {now}" for name, (was, now) in differing.items())


def _differences(settings: TrainSettings, dataset: Dataset, stored: Stored) -> dict[str, tuple[str, str]]:
    """Name -> what it was and what it is, for all that changes the result."""
    before = stored.manifest.configuration
    now = settings.model_dump(mode="json", exclude={"out"})
    compared = [name for name in now if name not in FREE_TO_CHANGE | {"data", "epochs"}]
    # A setting that an older cutaway had not yet was as it is by default.
    defaults = TrainSettings().model_dump(mode="json")
    found = {
        name: (repr(before.get(name, defaults[name])), repr(now[name]))
        for name in compared
        if before.get(name, defaults[name]) != now[name]
    }
    if before.get("epochs") != settings.epochs and settings.schedule != "constant":
        found["epochs"] = (repr(before.get("epochs")), repr(settings.epochs))
    if stored.manifest.data.fingerprint != dataset.fingerprint:
        found["data"] = (f"{stored.manifest.data.source}", "other pictures, labels or splits")
    return found
