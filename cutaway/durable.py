"""What has to be on disk before the next thing is done.

A file's bytes are on disk once the file is synced, and its name once its directory is: until then a loss of power may
take either, in any order. Whoever writes says what it waits for and why.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path


def sync(descriptor: int, flush: Callable[[], None] | None = None) -> None:
    """Returns once the file's bytes are on disk, beyond the drive's own cache where the system can say so.

    Args:
        descriptor: Of the file or directory.
        flush: Hands on first what Python's own buffer holds.
    """
    if flush is not None:
        flush()
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Returns once the names in a directory are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Makes a directory and those above it that are missing, and returns once they are on disk."""
    missing = [directory for directory in (path, *path.parents) if not directory.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for directory in reversed(missing):
        sync_directory(directory.parent)


def write_synced(file: Path, *parts: bytes) -> None:
    """Writes a new file, its content in one or many parts, and returns once its bytes are on disk."""
    with file.open("xb") as opened:
        for part in parts:
            opened.write(part)
        sync(opened.fileno(), opened.flush)


def replace_text(path: Path, text: str) -> None:
    """As `replace_bytes`, in UTF-8."""
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all, in the place of what is there; never through a link that a stranger left."""
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.unlink(missing_ok=True)
    write_synced(temporary, data)
    temporary.replace(path)
    sync_directory(path.parent)
