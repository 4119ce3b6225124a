"""What `cutaway doctor` found of one thing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "missing"]

ALWAYS = "always"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: Of the thing.
        status: `warning` where all works, but not as well or not as a person may think; `missing` where some does not.
        said: What was found.
        todo: What to do; empty where nothing is.
        needed_for: Parts of cutaway that do not work without; `always` for all of them.
    """

    name: str
    status: Status
    said: str
    todo: str = ""
    needed_for: tuple[str, ...] = ()

    def is_missing_for(self, needs: Collection[str]) -> bool:
        """Whether it is missing, and one of `needs`, or everything, needs it."""
        return self.status == "missing" and not {ALWAYS, *needs}.isdisjoint(self.needed_for)
