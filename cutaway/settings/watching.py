"""Which metric a run is judged by, and when it stops for lack of progress."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from cutaway.settings.group import SettingsGroup
from cutaway.settings.near_names import near_names

# Every metric that an epoch has, and whether more of it is better.
MODES: Mapping[str, Literal["max", "min"]] = {
    "train_loss": "min",
    "train_accuracy": "max",
    "valid_loss": "min",
    "valid_accuracy": "max",
    "valid_top5_accuracy": "max",
    "valid_macro_precision": "max",
    "valid_macro_recall": "max",
    "valid_macro_f1": "max",
    "valid_weighted_precision": "max",
    "valid_weighted_f1": "max",
    "valid_ece": "min",
    "valid_auroc": "max",
}


class WatchingSettings(SettingsGroup):
    """The monitored metric and early stopping."""

    title: ClassVar[str] = "watching"

    monitor: str = "valid_accuracy"
    """The metric that decides which bundle is the best and when to stop early, such as valid_loss or valid_macro_f1."""
    monitor_mode: Literal["auto", "max", "min"] = "auto"
    """Whether the best is the max or the min; auto knows for each metric."""
    patience: int = Field(default=0, ge=0, le=100_000)
    """Epochs in a row without a better monitored metric after which the run stops; 0 trains all epochs."""
    min_delta: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """For patience, a metric that is better by no more than this counts as no better."""

    @field_validator("monitor")
    @classmethod
    def _is_a_metric(cls, monitor: str) -> str:
        # Whether a metric of a person's own exists is known once training is given it.
        own = monitor.startswith("valid_") and monitor.isidentifier()
        if monitor not in MODES and not (own and not difflib.get_close_matches(monitor, MODES, n=1, cutoff=0.8)):
            near = near_names(monitor, MODES, 3) or list(MODES)
            raise ValueError(f"must be a metric, such as {', '.join(near)}")
        return monitor


FREE_TO_CHANGE: frozenset[str] = frozenset()
NEVER_TO_CHANGE: frozenset[str] = frozenset()
