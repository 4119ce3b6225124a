"""Permission to run a person's own code, which no bundle and no settings file can give itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def permitted(modules: Sequence[str]) -> tuple[str, ...]:
    """The modules that were allowed by `--allow-code`, which are looked for in the current directory too."""
    if modules and os.getcwd() not in sys.path:  # noqa: PTH109 - an entry of sys.path
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    return tuple(modules)
