"""What pydantic finds wrong, in our own words."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from cutaway.settings.near_names import near_names


def in_words(error: ValidationError, known: Iterable[str] = ()) -> tuple[str, str]:
    """The first fault that pydantic found, as a sentence and a hint.

    Args:
        error: What it raised.
        known: The names that an unknown one may be a slip of.
    """
    fault = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in fault["loc"]) or "the settings"
    if fault["type"] == "extra_forbidden":
        near = near_names(str(fault["loc"][-1]), known)
        return f"There is no setting named '{name}'.", f"Did you mean '{near[0]}'?" if near else ""
    if fault["type"] == "missing":
        return f"'{name}' is missing.", ""
    given = str(fault["input"]) if isinstance(fault["input"], Path) else fault["input"]
    said = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return (
        f"Setting '{name}' cannot be {reprlib.repr(given)}.",
        f"It should be {said.removeprefix('must be ')}.",
    )
