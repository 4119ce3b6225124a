"""Which weights a run begins with, and how fast which part of them moves."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from cutaway.settings.group import SettingsGroup

Normalisation = Literal["auto", "data", "imagenet"]
Unfreeze = Literal["at-once", "gradual"]
_Value = TypeVar("_Value", Path | None, str | None)


class FineTuningSettings(SettingsGroup):
    """Weights to begin with, and the backbone's part in the training."""

    title: ClassVar[str] = "fine-tuning"

    pretrained: bool = False
    """Begin with torchvision's own weights, fetched once, and a new head."""
    weights: Path | None = None
    """Begin with the weights in a .pth, .pt or .safetensors file; nothing in it is run."""
    init_from: str | None = None
    """Begin with the weights of another run: RUN (its best bundle), RUN@last, RUN@STEP or a bundle's directory."""
    normalisation: Normalisation = "auto"
    """data takes mean and deviation of the training pictures, imagenet ImageNet's; auto what the weights saw."""
    freeze_backbone: int = Field(default=0, ge=0)
    """Epochs at the beginning in which only the head learns; BatchNorm's statistics stay where they are, too."""
    unfreeze: Unfreeze = "at-once"
    """After that the whole backbone learns at-once, or gradual: one stage more an epoch, from the head down."""
    backbone_lr_scale: float = Field(default=1.0, gt=0, le=100)
    """The backbone's learning rate over the head's."""
    auxiliary_weight: float = Field(default=0.4, ge=0, le=10)
    """Of the auxiliary heads' losses, where a network has such heads (inception_v3, googlenet); 0 builds none."""

    @field_validator("weights", "init_from")
    @classmethod
    def _is_the_only_beginning(cls, value: _Value, info: ValidationInfo) -> _Value:
        others = [name for name in ("pretrained", "weights") if name != info.field_name and info.data.get(name)]
        if value is not None and others:
            raise ValueError(f"must be left out where {others[0]} says what to begin with")
        return value


# What a run began with is history once it has a bundle; the others decide the optimizer's groups.
NEVER_TO_CHANGE = frozenset({"pretrained", "weights", "init_from", "normalisation"}) | frozenset(
    {"freeze_backbone", "unfreeze", "backbone_lr_scale"}
)
