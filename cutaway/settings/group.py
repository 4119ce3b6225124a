"""What every group of settings is: frozen, validated, and without names that nobody knows."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class SettingsGroup(BaseModel):
    """Settings on one subject. Flat: `TrainSettings` joins the groups, and a name stands in one of them only.

    Beside it, a group's file names the settings that may differ when a run is resumed since they don't touch what is
    computed (`FREE_TO_CHANGE`), and those that no run can change since the saved state would not fit
    (`NEVER_TO_CHANGE`). Every other one must agree, or be named by `--override`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)

    title: ClassVar[str]
    """What the group is called in `--help`."""
