"""Whether there is another file in the place of one, and whether it is whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from cutaway.serve.classifier import Classifier
from cutaway.serve.examples import INDEX, examples_folder

__all__ = ["Watch"]

_Signature: TypeAlias = tuple[tuple[int, int, int, int] | None, ...]


class Watch:
    """One file, by its times, size and inode, with what lies beside it. Made before the file is loaded first.

    Args:
        path: Of the ONNX file.
        load: Loads it, checks it and warms it up.
    """

    def __init__(self, path: Path, load: Callable[[], Classifier]) -> None:
        self.load = load
        self._files = (path, path.with_name(f"{path.name}.data"), examples_folder(path) / INDEX)
        self._known = self._last = self._signature()

    def has_changed(self) -> bool:
        """Whether there is another file than the last that this said so of, and it is no longer being written."""
        before, self._last = self._last, self._signature()
        if self._last == self._known or self._last != before:
            return False
        self._known = self._last
        return True

    def _signature(self) -> _Signature:
        return tuple(map(_status, self._files))


def _status(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
