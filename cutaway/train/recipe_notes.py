"""What a person should know of the recipe before it is trained by: what never comes, and what does nothing."""

from __future__ import annotations

import math

import torch

from cutaway.settings import TrainSettings
from cutaway.settings.effect import without_effect
from cutaway.settings.schedule import ENDS_WITH_THE_RUN
from cutaway.train.fine_tuning.freezing import num_frozen
from cutaway.train.order import whole_batches


def recipe_notes(settings: TrainSettings, num_pictures: int, num_stages: int) -> list[str]:
    """A sentence for each thing that is worth one.

    Args:
        settings: The recipe.
        num_pictures: Of the training split.
        num_stages: Of the backbone, where parts of the network are told apart; else 0.
    """
    notes = [_on_warmup(settings, num_pictures), _on_freezing(settings, num_stages)]
    return [note for note in notes if note] + without_effect(settings)


def _on_warmup(settings: TrainSettings, num_pictures: int) -> str:
    # Schedules that end with the run have a shorter warm-up there. The others' rates must not depend on its length.
    if settings.schedule in ENDS_WITH_THE_RUN:
        return ""
    pictures = len(whole_batches(torch.arange(num_pictures), settings.batch_size))
    steps = settings.epochs * math.ceil(pictures / (settings.batch_size * settings.accumulate))
    if settings.warmup_steps <= steps:
        return ""
    return (
        f"The warm-up of {settings.warmup_steps:,} steps is longer than this run's {steps:,}, "
        f"so that the rate never reaches {settings.lr:g}; give a smaller --warmup-steps."
    )


def _on_freezing(settings: TrainSettings, num_stages: int) -> str:
    last = num_frozen(settings, settings.epochs - 1, num_stages)
    if last == 0:
        return ""
    run = "the run's only epoch" if settings.epochs == 1 else f"any of the run's {settings.epochs} epochs"
    if settings.freeze_backbone >= settings.epochs:
        return (
            f"The backbone does not learn in {run}, since --freeze-backbone is {settings.freeze_backbone}. "
            "For it to learn too, give more --epochs or a smaller --freeze-backbone."
        )
    stages = "first stage" if last == 1 else f"first {last} stages"
    return (
        f"The {stages} of the backbone's {num_stages} do{'es' if last == 1 else ''} not learn in {run}, since "
        "--unfreeze gradual adds one an epoch. For all to learn, give more --epochs."
    )
