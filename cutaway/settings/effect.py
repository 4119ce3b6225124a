"""Settings that were given and change nothing, because another setting leaves them no part to play."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from cutaway.settings.training import TrainSettings

_WITH_BETAS = ("adam", "adamax", "adamw", "nadam", "radam")
_FALLING_TO_LR_MIN = ("cosine", "cosine-restarts", "linear", "plateau", "polynomial", "trapezoid")


class _Part(NamedTuple):
    """Which values of another setting give a setting a part to play."""

    setting: str
    values: Collection[str]


_PARTS: Mapping[str, _Part] = {
    "momentum": _Part("optimizer", ("rmsprop", "sgd")),
    "betas": _Part("optimizer", _WITH_BETAS),
    "alpha": _Part("optimizer", ("rmsprop",)),
    "rho": _Part("optimizer", ("adadelta",)),
    "eps": _Part("optimizer", ("adadelta", "adagrad", *_WITH_BETAS, "rmsprop")),
    "focal_gamma": _Part("loss", ("focal",)),
    "lr_min": _Part("schedule", _FALLING_TO_LR_MIN),
    "schedule_factor": _Part("schedule", ("exponential", "multi-step", "plateau", "step")),
    "schedule_every": _Part("schedule", ("cosine-restarts", "step")),
    "schedule_growth": _Part("schedule", ("cosine-restarts",)),
    "schedule_milestones": _Part("schedule", ("multi-step",)),
    "schedule_power": _Part("schedule", ("polynomial",)),
    "plateau_patience": _Part("schedule", ("plateau",)),
    "plateau_threshold": _Part("schedule", ("plateau",)),
    "plateau_cooldown": _Part("schedule", ("plateau",)),
    "cycle_rise": _Part("schedule", ("one-cycle",)),
    "cycle_momentum": _Part("schedule", ("one-cycle",)),
}


def without_effect(settings: TrainSettings) -> list[str]:
    """A sentence for each setting that is not as by default and changes nothing."""
    default = TrainSettings()
    sentences = [
        f"{_option(name)} does nothing with {_option(part.setting)} {getattr(settings, part.setting)}; "
        f"it is of {_listed(part.values)}."
        for name, part in _PARTS.items()
        if getattr(settings, name) != getattr(default, name) and getattr(settings, part.setting) not in part.values
    ]
    if settings.schedule == "one-cycle" and settings.warmup_steps != default.warmup_steps:
        sentences.append("--warmup-steps does nothing with --schedule one-cycle, whose rise is --cycle-rise.")
    if settings.min_delta and not settings.patience:
        sentences.append("--min-delta does nothing without --patience.")
    return sentences


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _listed(words: Collection[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
