"""When bundles are written, which stay, and what the journal notes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cutaway.settings.group import SettingsGroup


class SavingSettings(SettingsGroup):
    """Bundles and the journal."""

    title: ClassVar[str] = "saving"

    save_every: int = Field(default=0, ge=0)
    """Steps between bundles within an epoch; 0 for none. A bundle is saved after each epoch in any case."""
    save_minutes: float = Field(default=0, ge=0)
    """Minutes after which the next step's end saves a bundle; 0 for none."""
    save_in_background: bool = True
    """Write bundles while training goes on; otherwise training waits for the disk."""
    keep_last: int = Field(default=2, ge=2, le=1_000_000)
    """Newest bundles to keep."""
    keep_best: int = Field(default=1, ge=1, le=1_000_000)
    """Bundles with the best monitored metric to keep."""
    keep_every: int = Field(default=0, ge=0)
    """Keep the bundles after every so many steps too; 0 for none."""
    log_every: int = Field(default=20, ge=1)
    """Steps between entries of loss and learning rate in the journal."""


FREE_TO_CHANGE = frozenset(
    {"save_every", "save_minutes", "save_in_background", "keep_last", "keep_best", "keep_every", "log_every"}
)
