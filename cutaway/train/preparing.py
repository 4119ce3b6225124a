"""Before the first step: the data, the network's input, and whether a run may go on with these settings."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue

from cutaway.checkpoints import Run, Stored
from cutaway.datasets import SPLITS, Dataset, load, statistics
from cutaway.errors import BundleError, DataError, NetworkError, SettingsError
from cutaway.metrics import TOP
from cutaway.networks import NetworkSpec, OwnCode, build_on_meta, has_auxiliary_heads, usual_image_size
from cutaway.networks.own import is_own
from cutaway.preprocessing import Preprocessing
from cutaway.preprocessing.several_views import cuts_corners
from cutaway.preprocessing.spec import IMAGENET_MEAN, IMAGENET_STD
from cutaway.progress import Track, silent
from cutaway.settings import FREE_TO_CHANGE, NEVER_TO_CHANGE, TrainSettings, read_yaml
from cutaway.settings.schedule import ENDS_WITH_THE_RUN
from cutaway.train.augmentation import cuts_photos
from cutaway.train.fine_tuning import Start
from cutaway.train.own import NOTHING_OWN, OVERRIDABLE, OwnObjects
from cutaway.train.own import REMEMBERED_AS as OWN

_LARGEST_SMALL_SIDE = 64


def load_data(settings: TrainSettings, *, track: Track = silent) -> Dataset:
    """The data set that the settings name, checked for what training needs.

    Raises:
        DataError: It cannot be loaded, or a split or the list of classes is too small to train on.
        SettingsError: The monitored metric does not exist of so few classes.
    """
    dataset = load(
        settings.data,
        seed=settings.seed,
        valid_share=settings.valid_share,
        test_share=settings.test_share,
        resplit=settings.resplit,
        duplicates=settings.duplicates,
        skip_unreadable=settings.skip_unreadable,
        track=track,
    )
    check_data(settings, dataset)
    return dataset


def where_begun(settings: TrainSettings, run: Run) -> str:
    """A hint where a run that is to go on names its data from a folder in which this process does not stand."""
    kind, _, place = settings.data.partition(":")
    if kind not in ("folder", "csv") or Path(place).is_absolute() or Path(place).exists():
        return ""
    try:
        begun = read_yaml(run.configuration) if run.configuration.exists() else {}
    except SettingsError:  # that it cannot be read is not what went wrong
        return ""
    if begun.get("data") != settings.data:
        return ""
    return f"The run was begun with --data {settings.data}; start where it was begun, or give --data."


def check_data(settings: TrainSettings, dataset: Dataset) -> None:
    """Checks a data set for what training needs, wherever it comes from.

    Raises:
        DataError: A split or the list of classes is too small to train on.
        SettingsError: The monitored metric does not exist of so few classes.
    """
    if len(dataset.classes) < 2:
        raise DataError(f"{settings.data} has only the class '{dataset.classes[0]}'; a classifier needs two or more.")
    if settings.monitor == "valid_top5_accuracy" and len(dataset.classes) <= TOP:
        raise SettingsError(
            f"There is no {settings.monitor} of {len(dataset.classes)} classes, since it is always 1.",
            hint="Choose another --monitor, such as valid_accuracy.",
        )
    for split in (dataset.train, dataset.valid):
        if len(split) == 0:
            raise DataError(f"The {split.name} split of {settings.data} is empty.", hint="Add pictures to each class.")


def describe_input(
    settings: TrainSettings, dataset: Dataset, start: Start | None = None, *, track: Track = silent
) -> Preprocessing:
    """Decides the network's input: its size, its channels, and how it is normalised.

    Unless the settings say how, pictures in memory, which are all of one size, are stretched to the input; of files the
    shorter side is resized and the centre cut out. Size, colour and normalisation are what the weights to begin with
    are used to. Without such weights they are the data's own, or the size that the network was designed for.
    """
    seen = start.seen if start is not None else None
    plain = describe_geometry(settings, dataset, start)
    if settings.normalisation == "imagenet":
        values: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    elif settings.normalisation == "auto" and seen is not None:
        values = {"mean": seen.mean, "std": seen.std}
    else:
        mean, std = statistics(dataset.train, plain, track=track)
        values = {"mean": mean, "std": std}
    return Preprocessing.model_validate(plain.model_dump() | values)


def describe_geometry(settings: TrainSettings, dataset: Dataset, start: Start | None = None) -> Preprocessing:
    """The network's input but for its normalisation, which may take a pass over the pictures."""
    images = dataset.train.images
    seen = start.seen if start is not None else None
    wanted = settings.image_size or (None if seen is not None else usual_image_size(settings.network))
    size = (wanted, wanted) if wanted else seen.size if seen is not None else None
    color = "grey" if images is not None and images.shape[3] == 1 else "rgb"
    if start is not None and start.color is not None:
        color = start.color
    if settings.normalisation == "imagenet":
        color = "rgb"
    values: dict[str, Any] = {"color": color}
    if seen is not None:
        values["interpolation"] = seen.interpolation
    usual = "stretch" if images is not None else "pad" if seen is not None and seen.resize == "pad" else "shorter"
    values["resize"] = usual if settings.resize == "auto" else settings.resize
    own = (_LARGEST_SMALL_SIDE, _LARGEST_SMALL_SIDE) if images is None else (images.shape[1], images.shape[2])
    values["size"] = size or own
    if values["resize"] == "pad" and seen is not None:
        values["fill"] = seen.fill
    if values["resize"] == "shorter":
        # A seventh above the crop, as torchvision's references do at 224, where the weights don't say otherwise.
        above = seen.resize_to / max(seen.size) if seen is not None and seen.resize_to is not None else 8 / 7
        values["resize_to"] = math.ceil(round(max(values["size"]) * above, 6))
    channels = 1 if color == "grey" else 3
    return Preprocessing.model_validate(values | {"mean": (0.0,) * channels, "std": (1.0,) * channels})


def describe_network(
    settings: TrainSettings, dataset: Dataset, preprocessing: Preprocessing, code: OwnCode | None = None
) -> NetworkSpec:
    """The network that the settings name, for this data and input.

    Raises:
        SettingsError: It normalises over a batch, and batches are to hold one picture.
    """
    spec = NetworkSpec(
        name=settings.network,
        num_classes=len(dataset.classes),
        input_shape=preprocessing.input_shape,
        arguments=_arguments(settings),
    )
    _check_trains(spec)
    if min(settings.batch_size, len(dataset.train)) == 1:
        try:
            build_on_meta(spec, code).train()(torch.empty(1, *spec.input_shape, device="meta"))
        except ValueError as error:
            raise SettingsError(
                f"{settings.network} has batch norm, which has no statistics over a batch of one picture.",
                hint="Give a --batch-size of 2 or more, or a network without batch norm.",
            ) from error
    return spec


def decoded_once(settings: TrainSettings) -> list[str]:
    """The splits whose pictures are the same each time that they are looked at.

    Whether they fit in memory must not change what is computed, so the others are decoded each time in any case.
    """
    changing = {"train": cuts_photos(settings), "test": cuts_corners(settings.tta)}
    return [name for name in SPLITS if not changing.get(name)]


def _arguments(settings: TrainSettings) -> dict[str, JsonValue]:
    arguments = settings.all_network_arguments()
    if has_auxiliary_heads(settings.network) and settings.auxiliary_weight > 0:
        arguments.setdefault("aux_logits", True)
    return arguments


def _check_trains(spec: NetworkSpec) -> None:
    """Auxiliary heads run in training alone, where a picture may be too small for them that the rest can take."""
    if not spec.arguments.get("aux_logits"):
        return
    network = build_on_meta(spec)
    try:
        network.train()(torch.empty(2, *spec.input_shape, device="meta"))
    except RuntimeError as error:
        size = spec.input_shape[1]
        raise NetworkError(
            f"The auxiliary heads of {spec.name} cannot take pictures of {size}x{size} pixels.",
            hint=f"Give --image-size {usual_image_size(spec.name)}, or --auxiliary-weight 0 to train without them.",
        ) from error


def check_may_go_on(
    settings: TrainSettings,
    dataset: Dataset,
    stored: Stored,
    override: Collection[str] = (),
    own: OwnObjects = NOTHING_OWN,
) -> tuple[str, ...]:
    """Compares settings and data with those that a run was begun with.

    Args:
        settings: Of the training from here on.
        dataset: Likewise.
        stored: The bundle to go on from.
        override: Names of settings that may differ all the same, or of one's own `loss` and `transform`.
        own: What the person handed in beside the settings.

    Returns:
        What differs and may, in words.

    Raises:
        BundleError: Going on would give another result than the uninterrupted run; says in which settings they differ.
        SettingsError: Something is to be overridden that cannot be.
    """
    unknown = [name for name in override if name not in (*TrainSettings.model_fields, *OVERRIDABLE)]
    if unknown:
        raise SettingsError(f"There is no setting named '{unknown[0]}' to override.")
    fixed = [name for name in override if name in NEVER_TO_CHANGE]
    if fixed:
        raise SettingsError(
            f"'{fixed[0]}' cannot be overridden: the weights and the optimizer's state would not fit.",
            hint="Begin a new run with another --out.",
        )
    differing = _differences(settings, dataset, stored) | own.differences(stored.manifest.state.get(OWN))
    if own.code.network is not None and is_own(stored.manifest.network.name):
        override = {*override, "network"}  # what a class is called now is no matter: its weights have to fit
    refused = {name: pair for name, pair in differing.items() if name not in override}
    if refused:
        width = max(len(name) for name in refused)
        table = "\n".join(f"  {name:{width}}  was {was}, now {now}" for name, (was, now) in refused.items())
        may = [name for name in refused if name not in NEVER_TO_CHANGE]
        overriding = f", or change it from here on with --override {' '.join(may)}" if may == list(refused) else ""
        ends = f" The {settings.schedule} schedule ends with the run's last epoch." if "epochs" in refused else ""
        raise BundleError(
            f"The newest bundle of the run at {stored.path.parent.parent} has other settings:\n{table}\n"
            f"Going on would not give what the uninterrupted run gives.{ends}",
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
    if before.get("epochs") != settings.epochs and settings.schedule in ENDS_WITH_THE_RUN:
        found["epochs"] = (repr(before.get("epochs")), repr(settings.epochs))
    if stored.manifest.data.fingerprint != dataset.fingerprint:
        found["data"] = (f"{stored.manifest.data.source}", "other pictures, labels or splits")
    return found
