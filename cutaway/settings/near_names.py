"""The names that a slip of the pen may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near_names(given: str, known: Iterable[str], count: int = 1) -> list[str]:
    """The known names that are nearest to one that is not among them, the nearest first.

    Those that it is the beginning of come before any that are spelt like it: `valid_acc` is short for `valid_accuracy`,
    though fewer letters lead to `valid_auroc`.

    Args:
        given: What a person wrote.
        known: The names that there are.
        count: At most so many are given.
    """
    names = list(dict.fromkeys(known))
    longer = [name for name in names if given and name.startswith(given)]
    return [*longer, *difflib.get_close_matches(given, [n for n in names if n not in longer], n=count)][:count]
