"""A rate that drops when the monitored metric stops getting better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from cutaway.errors import BundleError
from cutaway.settings import TrainSettings

Mode = Literal["max", "min"]
_REMEMBERED_AS = "plateau"


class Plateau(BaseModel):
    """What a plateau schedule remembers from one epoch to the next.

    Attributes:
        scale: What the learning rate is multiplied with.
        best: The best metric so far; None before the first.
        waited: Epochs since.
        cooling: Epochs in which waiting doesn't count yet.
        metric: What `best` is a value of; empty in bundles that did not tell yet.
        mode: Whether more of it is better; likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: float = Field(default=1.0, ge=0, le=1)
    best: float | None = Field(default=None, allow_inf_nan=False)
    waited: int = Field(default=0, ge=0)
    cooling: int = Field(default=0, ge=0)
    metric: str = ""
    mode: Mode | Literal[""] = ""

    def after(self, value: float, mode: Mode, settings: TrainSettings) -> Plateau:
        """The state after an epoch whose monitored metric is `value`; what is not finite is no better than anything."""
        best, waited, cooling, scale = self.best, self.waited + 1, self.cooling, self.scale
        if self.metric and (self.metric, self.mode) != (settings.monitor, mode):
            best = None  # values of two metrics cannot be compared
        if math.isfinite(value) and (best is None or _is_better(value, best, mode, settings.plateau_threshold)):
            best, waited = value, 0
        if cooling > 0:
            cooling, waited = cooling - 1, 0
        if waited > settings.plateau_patience:
            scale *= 0.1 if settings.schedule_factor is None else settings.schedule_factor
            waited, cooling = 0, settings.plateau_cooldown
        return Plateau(scale=scale, best=best, waited=waited, cooling=cooling, metric=settings.monitor, mode=mode)


def follow_plateau(settings: TrainSettings, remembered: dict[str, JsonValue], value: float, mode: Mode) -> None:
    """Counts a whole epoch by its monitored metric in what a session remembers; for other schedules, does nothing."""
    if settings.schedule == "plateau":
        remembered[_REMEMBERED_AS] = _recall(remembered).after(value, mode, settings).model_dump()


def plateau_scale(remembered: Mapping[str, JsonValue]) -> float:
    """What a plateau has made of the learning rate so far; 1 where there is none."""
    return _recall(remembered).scale


def _recall(remembered: Mapping[str, JsonValue]) -> Plateau:
    try:
        return Plateau.model_validate(remembered.get(_REMEMBERED_AS, {}))
    except ValidationError as error:
        raise BundleError("What the bundle remembers of the plateau cannot be read.") from error


def _is_better(value: float, best: float, mode: Mode, threshold: float) -> bool:
    # A share of the best's size: metrics of one's own may be negative.
    enough = threshold if best >= 0 else -threshold
    return value < best * (1 - enough) if mode == "min" else value > best * (1 + enough)
