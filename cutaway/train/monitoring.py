"""The metric that a run is judged by: which bundle is the best, and whether there is still progress."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from cutaway.checkpoints.manifest import Monitored
from cutaway.errors import BundleError, SettingsError
from cutaway.settings import TrainSettings
from cutaway.settings.watching import MODES

_REMEMBERED_AS = "early_stopping"


class Patience(BaseModel):
    """How long a run has gone without progress.

    Attributes:
        metric: The monitored one.
        mode: Whether more of it is better.
        best: The best value that counted as an improvement; None where none was a finite number.
        epoch: The epoch that it is from; 0 for none.
        waited: Epochs since.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    mode: Literal["max", "min"]
    best: float | None = Field(default=None, allow_inf_nan=False)
    epoch: int = Field(default=0, ge=0)
    waited: int = Field(default=0, ge=0)


def monitored(settings: TrainSettings) -> Monitored:
    """The metric that the best bundle is chosen by, and whether more of it is better."""
    known = MODES.get(settings.monitor, "max")
    mode = known if settings.monitor_mode == "auto" else settings.monitor_mode
    return Monitored(metric=settings.monitor, mode=mode)


def check_monitor(settings: TrainSettings, own: Collection[str] = ()) -> None:
    """Refuses to monitor what no epoch has.

    Args:
        settings: Name the metric.
        own: The person's own metrics.

    Raises:
        SettingsError: There is no such metric, or it is the person's own and it is not said which way is better.
    """
    if settings.monitor in MODES:
        return
    if settings.monitor not in own:
        known = ", ".join((*MODES, *own))
        raise SettingsError(f"There is no metric '{settings.monitor}' to monitor.", hint=f"Choose one of {known}.")
    if settings.monitor_mode == "auto":
        raise SettingsError(
            f"Whether more or less of your own metric '{settings.monitor}' is better is not known.",
            hint="Say it: monitor_mode='max' or 'min'.",
        )


def count_epoch(
    settings: TrainSettings, remembered: dict[str, JsonValue], epoch: int, metrics: Mapping[str, float]
) -> None:
    """Compares an epoch with the best before it, and remembers the result; does nothing where patience is endless.

    Args:
        settings: Name the metric, and by how much it has to be better.
        remembered: A session's; changed in place.
        epoch: 1 for the first.
        metrics: Of the epoch, by name. What is not finite is no better than anything.
    """
    if not settings.patience:
        return
    before, value = _recall(settings, remembered), metrics[settings.monitor]
    if math.isfinite(value) and _is_better(before, value, settings.min_delta):
        after = before.model_copy(update={"best": float(value), "epoch": epoch, "waited": 0})
    else:
        after = before.model_copy(update={"waited": before.waited + 1})
    remembered[_REMEMBERED_AS] = after.model_dump()


def is_over(settings: TrainSettings, epoch: int, remembered: Mapping[str, JsonValue]) -> bool:
    """Whether a run has all of its epochs, or stopped early, after `epoch` whole ones."""
    return epoch >= settings.epochs or stopped_early(settings, epoch, remembered)


def stopped_early(settings: TrainSettings, epoch: int, remembered: Mapping[str, JsonValue]) -> bool:
    """Whether the patience was used up before the last epoch."""
    impatient = settings.patience > 0 and _recall(settings, remembered).waited >= settings.patience
    return impatient and epoch < settings.epochs


def why_stopped(settings: TrainSettings, remembered: Mapping[str, JsonValue]) -> str:
    """Early stopping in a few words."""
    state = _recall(settings, remembered)
    epochs = "an epoch" if state.waited == 1 else f"{state.waited} epochs"
    if state.best is None:
        return f"{state.metric} was no finite number for {epochs}"
    enough = f" by more than {settings.min_delta:g}" if settings.min_delta else ""
    return f"{state.metric} was no better than the {state.best:.4g} of epoch {state.epoch}{enough} for {epochs}"


def _recall(settings: TrainSettings, remembered: Mapping[str, JsonValue]) -> Patience:
    """What is remembered of the monitored metric; a new beginning where another was monitored before."""
    rule = monitored(settings)
    fresh = Patience(metric=rule.metric, mode=rule.mode)
    if _REMEMBERED_AS not in remembered:
        return fresh
    try:
        known = Patience.model_validate(remembered[_REMEMBERED_AS])
    except ValidationError as error:
        raise BundleError("What the bundle remembers of early stopping cannot be read.") from error
    return known if (known.metric, known.mode) == (rule.metric, rule.mode) else fresh


def _is_better(before: Patience, value: float, min_delta: float) -> bool:
    if before.best is None:
        return True
    return (value - before.best if before.mode == "max" else before.best - value) > min_delta
