"""One writer for each run: a lock that the file system itself frees when its owner dies."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cutaway.errors import BundleError


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Holds a run's lock.

    Raises:
        BundleError: Another process holds it; says which and since when. Or the directory cannot be written.
    """
    file = directory / ".lock"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BundleError(
            f"The run directory {directory} cannot be written: {error.strerror}.", hint="Choose another --out."
        ) from error
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BundleError(
                f"Another process is training into {directory}: {_owner(descriptor)}.",
                hint="Wait for it, stop it, or choose another --out.",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "since": time.time()}).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _owner(descriptor: int) -> str:
    try:
        owner = json.loads(os.pread(descriptor, 1000, 0))
        return f"process {owner['pid']}, for {max(0, time.time() - owner['since']):.0f} s"
    except (ValueError, KeyError, TypeError):
        return "an unknown process"
