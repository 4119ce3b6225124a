"""Picture files that a person names: files, folders and patterns."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from cutaway.errors import ImageError
from cutaway.images import EXTENSIONS


def picture_files(names: Iterable[str]) -> list[Path]:
    """The files behind names: a file is itself, a folder its pictures at any depth, a pattern whatever it matches.

    Raises:
        ImageError: A name stands for nothing.
    """
    files: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())
        elif path.exists():
            found = [path]
        else:
            found = sorted(Path(match) for match in glob.glob(name, recursive=True))  # noqa: PTH207 - may be absolute
        if not found:
            raise ImageError(f"There is no picture at {name}.", hint="Name a file, a folder of pictures, or a pattern.")
        files.extend(found)
    return files
