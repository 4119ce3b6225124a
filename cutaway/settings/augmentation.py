"""How training pictures are varied, how they are mixed, and how many views are judged at test time."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from cutaway.settings.augmentation_names import parse_augmentations
from cutaway.settings.group import SettingsGroup

TestViews = Literal["none", "flip", "five-crop", "ten-crop"]


class AugmentationSettings(SettingsGroup):
    """What happens to training pictures on their way, and to test pictures at the end."""

    title: ClassVar[str] = "augmentation"

    augment: tuple[str, ...] = ()
    """Names with strengths, applied in this order: resized-crop:0.25 (first) crop:4 flip vertical-flip rotate:15 affine
    colour-jitter:0.2 grayscale autocontrast equalize invert posterize solarize sharpness randaugment:2,9 trivial
    erase:0.25 salt-and-pepper:0.05; or standard, photo or strong, which stand for several; or none."""
    mixup: float = Field(default=0.0, ge=0, le=100)
    """Blends each picture and label with another's, by a share from Beta(mixup, mixup); 0 is off, 0.2 is usual."""
    cutmix: float = Field(default=0.0, ge=0, le=100)
    """Pastes a rectangle of another picture, with area from Beta(cutmix, cutmix); 0 is off, 1 is usual. Where mixup is
    on too, each step draws one of the two."""
    tta: TestViews = "none"
    """Views of each test picture over which a second final measurement averages: none (no such measurement), flip (and
    the mirror image), five-crop (corners and centre), ten-crop (those and their mirror images)."""

    @field_validator("augment")
    @classmethod
    def _are_augmentations(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(augmentation) for augmentation in parse_augmentations(words))


FREE_TO_CHANGE = frozenset({"tta"})
