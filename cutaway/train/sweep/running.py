"""One run of a sweep as a function from settings to metrics, and what can be told before it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch

from cutaway.checkpoints import Run
from cutaway.devices import choose_device
from cutaway.errors import CutawayError
from cutaway.networks import OwnCode, check_network
from cutaway.progress import Track, silent
from cutaway.settings import TrainSettings, validated
from cutaway.settings.data import DataSettings
from cutaway.settings.fine_tuning import FineTuningSettings
from cutaway.settings.network import NetworkSettings
from cutaway.train.fine_tuning import Start, find_start
from cutaway.train.keeping import KeptData
from cutaway.train.monitoring import check_monitor
from cutaway.train.preparing import check_data, describe_geometry, describe_network
from cutaway.train.recipe import make_criterion, make_scaler
from cutaway.train.sweep.outcomes import metrics_of
from cutaway.train.training import train


def run(
    config: Mapping[str, Any],
    *,
    allow_code: Collection[str] = (),
    kept: KeptData | None = None,
    track: Track = silent,
    on_note: Callable[[str], None] = lambda _: None,
) -> dict[str, float]:
    """Trains with these settings, or goes on with the run that is at their `out`.

    What a sweep calls for each run, and what other schedulers of trials can call as well.

    Args:
        config: Settings by name; those that are missing are as by default.
        allow_code: As for `train`.
        kept: Keeps the data for the next run of this process.
        track: Shows progress.
        on_note: Called with a sentence where something happened that a person should know.

    Returns:
        The metrics of the epoch with the best monitored one, and those of the test split.

    Raises:
        CutawayError: Something about the settings, the data, the device or the run's directory is wrong.
        Interrupted: SIGTERM or SIGINT came; the batch in hand was finished and saved.
    """
    settings = validated(config)
    train(settings, allow_code=allow_code, kept=kept, track=track, on_note=on_note)
    return metrics_of(Run(settings.out), settings)


def check(
    runs: Iterable[tuple[str, TrainSettings]],
    kept: KeptData,
    *,
    allow_code: Collection[str] = (),
    track: Track = silent,
) -> None:
    """Tells before the first of several runs what would end one of them: no such device, data, metric or network.

    Args:
        runs: What to call each run, and its settings.
        kept: Loads the data, and keeps that of the first run.
        allow_code: As for `train`.
        track: Shows progress.

    Raises:
        CutawayError: Of the first run that has one; says of which.
    """
    by_data: dict[str, list[tuple[str, TrainSettings]]] = {}
    for name, settings in runs:
        by_data.setdefault(settings.model_dump_json(include=set(DataSettings.model_fields)), []).append(
            (name, settings)
        )
    code = OwnCode(None, tuple(allow_code))
    # The data of the first run last, so that it is there when the run begins.
    start: tuple[str, Start | None] = ("", None)
    for group in reversed(by_data.values()):
        dataset = None
        for name, settings in group:
            try:
                check_monitor(settings)
                make_scaler(settings, choose_device(settings.device))
                # Another seed only deals the pictures out to other splits.
                dataset = dataset or kept.load(settings, track=track)
                check_data(settings, dataset)
                make_criterion(settings, dataset.counts()["train"], torch.device("cpu"))
                if Run(settings.out).bundle_paths():
                    continue  # its network is that of its bundles
                key = settings.model_dump_json(
                    include={*FineTuningSettings.model_fields, *NetworkSettings.model_fields}
                )
                if key != start[0]:
                    start = (key, find_start(settings))
                geometry = describe_geometry(settings, dataset, start[1])
                check_network(describe_network(settings, dataset, geometry, code), code)
            except CutawayError as error:
                raise type(error)(f"{name}: {error.message}", hint=error.hint) from error
