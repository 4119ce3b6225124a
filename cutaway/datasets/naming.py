"""Names of classes and splits: one spelling, one order."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from cutaway.errors import DataError

_DIGITS = re.compile(r"([0-9]+)")
_SPLIT_NAMES = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}


def split_named(name: str) -> str | None:
    """`train`, `valid` or `test` for a name that means it, in any case; None for any other."""
    return _SPLIT_NAMES.get(name.casefold())


def class_named(name: str) -> str:
    """The class's one spelling: accents composed (macOS stores them apart), no blanks around it."""
    return unicodedata.normalize("NFC", name).strip()


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sorts as people do: `class 2` before `class 10`, small and capital letters together."""
    return tuple(sorted(names, key=_natural_key))


def check_classes(names: Iterable[str]) -> None:
    """Refuses names that are no text, and those that differ by capital letters only.

    Raises:
        DataError: A folder's name is not UTF-8, so that no bundle could hold it; or two differ by capitals, which are
            one class on some file systems and most likely a slip.
    """
    seen: dict[str, str] = {}
    for name in natural_order(set(names)):
        if any("\ud800" <= char <= "\udfff" for char in name):
            raise DataError(f"The name of the class {name!r} is not UTF-8.", hint="Rename its folder.")
        twin = seen.setdefault(unicodedata.normalize("NFKC", name).casefold(), name)
        if twin != name:
            raise DataError(
                f"The classes {twin!r} and {name!r} differ by capital letters only.", hint="Rename or merge them."
            )


def _natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    # re.split puts the digits at the odd places.
    parts = [
        (1, int(part), "") if position % 2 else (0, 0, part)
        for position, part in enumerate(_DIGITS.split(name.casefold()))
        if part
    ]
    return parts, name
