"""One writer for each run: a lock that the file system itself frees when its owner dies."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cutaway.checkpoints.durable import make_directory
from cutaway.errors import BundleError


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Holds a run's lock, which the process's own children do not inherit.

    Raises:
        BundleError: Another process holds it; says which and since when. Or the directory cannot be written.
    """
    file = directory / ".lock"
    try:
        make_directory(directory)
        # A link here could only be a stranger's, and what it leads to would be overwritten.
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise BundleError(
            f"The run directory {directory} cannot be written: {error.strerror or error}.", hint="Choose another --out."
        ) from error
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise BundleError(
                f"Another process is training into {directory}: {_owner(descriptor)}.",
                hint="Wait for it, stop it, or choose another --out.",
            ) from error
        except OSError as error:
            raise BundleError(
                f"The run directory {directory} cannot be locked: {error.strerror or error}.",
                hint="Choose an --out on a file system that has locks.",
            ) from error
        with suppress(OSError):  # a full disk: the lock holds all the same, only its owner's name is not there to read
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "since": time.time()}).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _owner(descriptor: int) -> str:
    try:
        owner = json.loads(os.pread(descriptor, 1000, 0))
        # A clock that was moved back must not make the lock younger than nothing.
        return f"process {int(owner['pid'])}, for {max(0, time.time() - owner['since']):.0f} s"
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, OSError):
        return "an unknown process"
