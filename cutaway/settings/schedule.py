"""How the learning rate changes over a run."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from cutaway.settings.group import SettingsGroup

Schedule = Literal[
    "constant",
    "cosine",
    "cosine-restarts",
    "exponential",
    "inverse-sqrt",
    "linear",
    "multi-step",
    "one-cycle",
    "plateau",
    "polynomial",
    "step",
    "trapezoid",
]
Unit = Literal["auto", "step", "epoch"]
# Of these every rate depends on how many epochs the run has, so that a finished run cannot be extended.
ENDS_WITH_THE_RUN = frozenset({"cosine", "linear", "one-cycle", "polynomial", "trapezoid"})
Count = Annotated[int, Field(ge=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


class ScheduleSettings(SettingsGroup):
    """The learning rate over the run."""

    title: ClassVar[str] = "schedule"

    lr: float = Field(default=0.003, gt=0, le=100)
    """Learning rate, at its highest point."""
    lr_min: float = Field(default=0.0, ge=0, le=100)
    """Where cosine, linear, polynomial and trapezoid end, restarts begin anew, and what plateau doesn't go below."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps over which the rate rises linearly; at most a tenth of the run where the schedule ends with the run.
    one-cycle has its own."""
    schedule: Schedule = "cosine"
    """cosine, linear, polynomial, trapezoid (constant, then linear over the last fifth) and one-cycle fall until the
    run's last epoch. constant, step, multi-step, exponential, cosine-restarts, inverse-sqrt and plateau don't know it,
    so that a finished run can be extended."""
    schedule_per: Unit = "auto"
    """Whether the schedule counts steps or epochs; by itself, step, multi-step, exponential and cosine-restarts count
    epochs and all others steps. plateau always looks at epochs."""
    schedule_factor: float | None = Field(default=None, gt=0, lt=1)
    """What step, multi-step, exponential and plateau multiply the rate with; by default 0.95 in exponential, else 0.1.
    """
    schedule_every: int = Field(default=10, ge=1)
    """Epochs, or steps, between two drops of step, and in the first period of cosine-restarts."""
    schedule_growth: int = Field(default=1, ge=1, le=100)
    """Each period of cosine-restarts is this many times as long as the one before."""
    schedule_milestones: tuple[Count, ...] = ()
    """Epochs, or steps, after which multi-step drops."""
    schedule_power: float = Field(default=2.0, gt=0, le=100)
    """Of polynomial."""
    plateau_patience: int = Field(default=3, ge=0)
    """Epochs without a better monitored metric that plateau waits for."""
    plateau_threshold: float = Field(default=1e-4, ge=0, lt=1)
    """Share by which the metric has to be better to count."""
    plateau_cooldown: int = Field(default=0, ge=0)
    """Epochs after a drop in which plateau doesn't count."""
    cycle_rise: float = Field(default=0.3, gt=0, lt=1)
    """Share of the run in which one-cycle's rate rises."""
    cycle_momentum: tuple[Momentum, Momentum] | None = (0.85, 0.95)
    """Lowest and highest momentum (or first beta) of one-cycle, which falls while the rate rises; None leaves it."""

    @field_validator("lr_min")
    @classmethod
    def _is_below(cls, lr_min: float, info: ValidationInfo) -> float:
        if lr_min > info.data.get("lr", lr_min):
            raise ValueError(f"must be at most the highest rate, --lr {info.data['lr']}")
        return lr_min

    @field_validator("schedule_milestones")
    @classmethod
    def _ascend(cls, milestones: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if info.data.get("schedule") == "multi-step" and not milestones:
            raise ValueError("must be one or more epochs for --schedule multi-step, such as 30 60 90")
        if any(later <= earlier for earlier, later in pairwise(milestones)):
            raise ValueError("must be in ascending order")
        return milestones

    @field_validator("cycle_momentum")
    @classmethod
    def _are_in_order(cls, momentum: tuple[float, float] | None) -> tuple[float, float] | None:
        if momentum and momentum[0] > momentum[1]:
            raise ValueError("must be the lowest momentum first")
        return momentum
