"""Keeping the memory of one step for the next.

By itself glibc gives large blocks back to the system as soon as they are free, and every step of a training on the CPU
takes the same ones anew, page by page, each of which the system fills with zeros first: a third of the time of a small
network.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_NEVER = 2**31 - 1
_MOST_MAPPINGS = 65_536
# What glibc's own adjustment ends at where large blocks come and go.
_LARGEST_MMAP_THRESHOLD = 32 * 2**20


@contextmanager
def kept_heap() -> Iterator[None]:
    """Has the process keep what it frees within the block, and gives it back to the system at the end.

    Does nothing where the C library is not glibc, or where a person has tuned it by the environment.
    """
    library = ctypes.CDLL(None)
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(n.startswith("MALLOC_") for n in os.environ)
    if tuned or not all(hasattr(library, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim")):
        yield
        return
    library.mallopt(_TRIM_THRESHOLD, _NEVER)
    library.mallopt(_MMAP_MAX, 0)
    try:
        yield
    finally:
        library.mallopt(_MMAP_MAX, _MOST_MAPPINGS)
        library.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        library.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)
        library.malloc_trim(ctypes.c_size_t(0))
