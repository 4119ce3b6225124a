"""Sections on how the network came to be: curves, augmentation, settings, environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cutaway.inspect import charts
from cutaway.inspect.report.subject import Subject
from cutaway.settings import TrainSettings


def gather_curves(subject: Subject) -> Mapping[str, Any] | None:
    """Loss, accuracy and learning rate over the epochs."""
    drawn = charts.curves(subject.journal)
    if not drawn:
        return None
    sides = (charts.WIDTH, charts.HEIGHT, charts.LEFT, charts.WIDTH - charts.RIGHT, charts.HEIGHT - charts.BOTTOM)
    return {"charts": drawn, "epochs": sum("epoch" in row for row in subject.journal), "sides": sides}


def gather_augmented(subject: Subject) -> Mapping[str, Any] | None:
    """What augmentation makes of training pictures."""
    return None if subject.augmented is None else {"grid": subject.augmented}


def gather_settings(subject: Subject) -> Mapping[str, Any] | None:
    """Every setting of the run."""
    if not subject.settings:
        return None
    defaults = TrainSettings().model_dump(mode="json")
    chosen = {name: value for name, value in subject.settings.items() if value != defaults.get(name)}
    return {"settings": subject.settings, "chosen": chosen}


def gather_environment(subject: Subject) -> Mapping[str, Any] | None:
    """Versions and machine."""
    return {"environment": subject.environment} if subject.environment else None
