"""Every setting of a training run, flat: the groups joined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from cutaway.errors import SettingsError
from cutaway.settings import (
    augmentation,
    data,
    fine_tuning,
    network,
    recipe,
    running,
    saving,
    schedule,
    watching,
)
from cutaway.settings.faults import in_words

# In the order in which they are written and shown.
GROUPS = (
    data.DataSettings,
    network.NetworkSettings,
    running.RunningSettings,
    recipe.RecipeSettings,
    schedule.ScheduleSettings,
    augmentation.AugmentationSettings,
    fine_tuning.FineTuningSettings,
    watching.WatchingSettings,
    saving.SavingSettings,
)


class TrainSettings(
    saving.SavingSettings,
    watching.WatchingSettings,
    fine_tuning.FineTuningSettings,
    augmentation.AugmentationSettings,
    schedule.ScheduleSettings,
    recipe.RecipeSettings,
    running.RunningSettings,
    network.NetworkSettings,
    data.DataSettings,
):
    """What a run is made of. Given again, the same settings train the same network."""

    def changed(self, **changes: Any) -> TrainSettings:
        """The same settings but for these, checked like any others, which pydantic's `model_copy` does not do.

        Raises:
            SettingsError: A name is unknown or a value out of range.

        Example:
            >>> TrainSettings(lr=0.01).changed(epochs=3, out="runs/three").epochs
            3
        """
        return validated(self.model_dump() | changes)


def validated(values: Mapping[str, Any]) -> TrainSettings:
    """Settings from plain values.

    Raises:
        SettingsError: A value is unknown or out of range, in a sentence of our own.
    """
    try:
        return TrainSettings(**values)
    except (ValidationError, RecursionError) as error:
        if isinstance(error, RecursionError):
            raise SettingsError("The settings are nested too deeply.") from error
        sentence, hint = in_words(error, TrainSettings.model_fields)
        raise SettingsError(sentence, hint=hint) from error


FREE_TO_CHANGE = frozenset[str]().union(
    *(part.FREE_TO_CHANGE for part in (data, augmentation, running, watching, saving))
)
NEVER_TO_CHANGE = frozenset[str]().union(
    *(part.NEVER_TO_CHANGE for part in (data, network, recipe, fine_tuning, watching))
)
