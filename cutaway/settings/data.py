"""Which pictures, how they are loaded, and at which size the network sees them."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from cutaway.settings.group import SettingsGroup


class DataSettings(SettingsGroup):
    """The data set and how it is loaded."""

    title: ClassVar[str] = "data"

    data: str = "fashion-mnist-sample"
    """fashion-mnist-sample, fashion-mnist, mnist, cifar10, folder:PATH or csv:FILE."""
    image_size: int | None = Field(default=None, ge=1, le=4096)
    """Side of the network's input in pixels; by default the data's own, or what the network was designed for."""
    resize: Literal["auto", "stretch", "shorter", "pad"] = "auto"
    """To that input: stretch, the shorter side and a centre crop, or pad, which shows all of a photo in its shape with
    grey around; auto stretches pictures in memory and crops those in files."""
    valid_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the pictures set aside for validation, class by class, where the data has no such split."""
    test_share: float = Field(default=0.1, ge=0, lt=1)
    """Likewise for the test; 0 for none."""
    resplit: bool = False
    """Pool the pictures of the data's own splits, and split all of them by the shares."""
    duplicates: Literal["warn", "drop", "error"] = "warn"
    """Of pictures that stand in more than one split: tell, leave them out of training, or stop."""
    balance: Literal["none", "loss", "sample"] = "none"
    """Make up for classes of unequal size: weight the loss, or draw each class equally often."""
    skip_unreadable: bool = False
    """Leave files out that cannot be decoded, instead of stopping."""
    workers: int | None = Field(default=None, ge=0, le=256)
    """Processes that decode pictures, where they don't fit in memory; by default one a core, 4 at most, for files on
    Linux."""
    memory_limit: int = Field(default=512, ge=0, le=1_000_000)
    """Decoded pictures of a folder are kept in memory up to this many MB; beyond it, workers decode them each time."""

    @field_validator("test_share")
    @classmethod
    def _leaves_some_to_train_on(cls, test_share: float, info: ValidationInfo) -> float:
        valid_share = info.data.get("valid_share", 0.0)
        if valid_share + test_share >= 1:
            raise ValueError(f"must be below {1 - valid_share:g}, since valid_share {valid_share:g} is taken already")
        return test_share


# What `duplicates` does to the splits is compared by their fingerprint.
FREE_TO_CHANGE = frozenset({"duplicates", "skip_unreadable", "workers", "memory_limit"})
NEVER_TO_CHANGE = frozenset({"image_size", "resize"})
