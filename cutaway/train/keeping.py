"""The data of one training kept for the next, where a process trains several runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from cutaway.datasets import SPLITS, Dataset, into_memory
from cutaway.preprocessing import Preprocessing
from cutaway.progress import Track, silent
from cutaway.settings import TrainSettings
from cutaway.settings.augmentation import AugmentationSettings
from cutaway.settings.data import DataSettings
from cutaway.settings.recipe import RecipeSettings
from cutaway.settings.running import RunningSettings
from cutaway.settings.saving import SavingSettings
from cutaway.settings.schedule import ScheduleSettings
from cutaway.settings.watching import WatchingSettings
from cutaway.train.fine_tuning import Start
from cutaway.train.preparing import check_data, describe_input, load_data

_NOT_OF_THE_INPUT = (
    RecipeSettings,
    ScheduleSettings,
    AugmentationSettings,
    RunningSettings,
    SavingSettings,
    WatchingSettings,
)


@dataclass
class KeptData:
    """Loads and decodes what a training asks for, unless it is what the one before it asked for.

    Only the last data set is kept. Nothing that is kept is ever changed, so a run computes the same either way.
    """

    _loaded: tuple[str, Dataset] | None = None
    _described: tuple[str, Preprocessing] | None = None
    _decoded: tuple[Dataset, tuple[Preprocessing, int, tuple[str, ...]], Dataset] | None = None

    def load(self, settings: TrainSettings, *, track: Track = silent) -> Dataset:
        """As `preparing.load_data`."""
        key = _asked(settings, {*DataSettings.model_fields, "seed"})
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = self._described = self._decoded = None  # before loading, so that both never lie in memory
            self._loaded = (key, load_data(settings, track=track))
        dataset = self._loaded[1]
        check_data(settings, dataset)
        return dataset

    def take(self, dataset: Dataset) -> Dataset:
        """Keeps a data set that was handed in, in the place of what `load` gave."""
        if self._loaded is None or self._loaded[1] is not dataset:
            self._loaded, self._described, self._decoded = ("", dataset), None, None
        return dataset

    def describe_input(
        self, settings: TrainSettings, dataset: Dataset, start: Start | None = None, *, track: Track = silent
    ) -> Preprocessing:
        """As `preparing.describe_input`, for the data set that `load` or `take` gave."""
        assert self._loaded is not None
        apart = {name for group in _NOT_OF_THE_INPUT for name in group.model_fields}
        key = _asked(settings, {*TrainSettings.model_fields} - apart | {"seed"})
        if start is not None:
            key += f" {start.color} {start.seen}"
        if self._described is None or self._described[0] != key:
            self._described = (key, describe_input(settings, dataset, start, track=track))
        return self._described[1]

    def into_memory(
        self,
        dataset: Dataset,
        preprocessing: Preprocessing,
        *,
        limit_bytes: int,
        names: Sequence[str] = SPLITS,
        track: Track = silent,
    ) -> Dataset:
        """As `datasets.into_memory`."""
        kept, asked = self._decoded, (preprocessing, limit_bytes, tuple(names))
        if kept is not None and kept[0] is dataset and kept[1] == asked:
            return kept[2]
        self._decoded = None
        decoded = into_memory(dataset, preprocessing, limit_bytes=limit_bytes, names=names, track=track)
        self._decoded = (dataset, asked, decoded)
        return decoded


def _asked(settings: TrainSettings, names: set[str]) -> str:
    return json.dumps(settings.model_dump(mode="json", include=names), sort_keys=True)
