"""One writer for each run: a lock that the file system itself frees when its owner dies."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cutaway.durable import make_directory
from cutaway.errors import BundleError, BusyError


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Holds a run's lock, which the process's own children do not inherit.

    Where what is done under it fails before it writes anything, directories that were made for it are removed again.

    Raises:
        BusyError: Another process holds it; says which and since when.
        BundleError: The directory cannot be written.
    """
    file = directory / ".lock"
    made, descriptor = _locked(directory, file)
    try:
        with suppress(OSError):  # a full disk: the lock holds all the same, only its owner's name is not there to read
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "since": time.time()}).encode(), 0)
        try:
            yield
        except BaseException:
            _remove_empty(made, file)
            raise
    finally:
        os.close(descriptor)


def _locked(directory: Path, file: Path) -> tuple[list[Path], int]:
    """The directories that had to be made, the innermost first, and the lock file's descriptor, locked."""
    while True:
        made, descriptor = _opened(directory, file)
        try:
            _lock(descriptor, directory)
            if _is_at(file, descriptor):
                return made, descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # Whoever held it until now has failed and removed the file: a lock on that keeps nobody out.
        os.close(descriptor)


def _opened(directory: Path, file: Path) -> tuple[list[Path], int]:
    try:
        missing = [each for each in (directory, *directory.parents) if not each.exists()]
        make_directory(directory)
        # A link here could only be a stranger's, and what it leads to would be overwritten.
        return missing, os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise BundleError(
            f"The run directory {directory} cannot be written: {error.strerror or error}.", hint="Choose another --out."
        ) from error


def _lock(descriptor: int, directory: Path) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise BusyError(
            f"Another process is training into {directory}: {_owner(descriptor)}.",
            hint="Wait for it, stop it, or choose another --out.",
        ) from error
    except OSError as error:
        raise BundleError(
            f"The run directory {directory} cannot be locked: {error.strerror or error}.",
            hint="Choose an --out on a file system that has locks.",
        ) from error


def _is_at(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_empty(made: list[Path], file: Path) -> None:
    """Removes directories in which there is nothing but the lock, which is still held."""
    with suppress(OSError):  # what stays is in nobody's way
        if made and list(made[0].iterdir()) == [file]:
            file.unlink()
            for directory in made:
                directory.rmdir()


def _owner(descriptor: int) -> str:
    try:
        owner = json.loads(os.pread(descriptor, 1000, 0))
        # A clock that was moved back must not make the lock younger than nothing.
        return f"process {int(owner['pid'])}, for {max(0, time.time() - owner['since']):.0f} s"
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, OSError):
        return "an unknown process"
