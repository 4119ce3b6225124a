"""Puts a page's folder in its place whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cutaway.errors import ExportError

__all__ = ["check_place", "put_folder"]

# By these an earlier page is known, which a new one may replace.
_MARKS = ("index.html", "model.json", "service-worker.js")


def check_place(folder: Path) -> None:
    """Refuses to put a page where something else is.

    Raises:
        ExportError: It is a file or a link, or a folder that holds something other than an earlier page.
    """
    with _said_in_words(folder):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise ExportError(f"{folder} is no folder.", hint="Give the name of a folder: --web site.")
        is_taken = folder.is_dir() and any(folder.iterdir())
    if is_taken and not all((folder / name).is_file() for name in _MARKS):
        raise ExportError(
            f"{folder} holds something other than an earlier page.", hint="Give the name of a new folder: --web site."
        )


def put_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes all files under a temporary name, and puts the folder in the place of an earlier page.

    After an error or an interruption the earlier page is still there, and nothing else. A folder cannot be renamed over
    another, so whoever is killed between two renames leaves neither, but both under temporary names.

    Args:
        folder: Where; its parents are made.
        files: Name, with `/` for folders, to content.

    Raises:
        ExportError: It cannot be written.
    """
    temporary, earlier = _temporary(folder), _temporary(folder)
    try:
        with _said_in_words(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
            for name, content in files.items():
                path = temporary / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            if folder.exists():
                folder.rename(earlier)
            try:
                temporary.rename(folder)
            except BaseException:
                if earlier.exists():
                    earlier.rename(folder)
                raise
    finally:
        for path in (temporary, earlier):
            if path.exists():
                shutil.rmtree(path)


def _temporary(folder: Path) -> Path:
    return folder.parent / f".tmp-{os.getpid()}-{secrets.token_hex(4)}-{folder.name}"


@contextmanager
def _said_in_words(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "Free some space, or give another place with --web."
        raise ExportError(f"{folder} cannot be written: {error.strerror or error}.", hint=hint) from error
