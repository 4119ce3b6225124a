"""What is kept between runs: downloaded data sets, and which pictures are known to be whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

# Raise it when `cutaway.images` refuses what it used to accept.
_DECODER = 1


def cache_folder() -> Path:
    """Where downloaded data sets lie: `cutaway` in $XDG_CACHE_HOME, or in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "cutaway"


def known_to_be_whole(hashes: Iterable[bytes]) -> bool:
    """Whether exactly these files, by the SHA-256 of their bytes, have all been decoded before."""
    return _marker(hashes).is_file()


def remember_as_whole(hashes: Iterable[bytes]) -> None:
    """Notes that these files have all been decoded, so that the next run need not decode them to be sure."""
    marker = _marker(hashes)
    # A home that cannot be written to costs the next run a little time and nothing else.
    with contextlib.suppress(OSError):
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()


def _marker(hashes: Iterable[bytes]) -> Path:
    digest = hashlib.sha256(b"".join(sorted(set(hashes)))).hexdigest()
    return cache_folder() / f"whole-pictures-{_DECODER}" / digest
