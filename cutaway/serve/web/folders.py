"""Which folder a page may take the place of: an empty one, one of an earlier page, or none."""

from __future__ import annotations

from pathlib import Path

from cutaway.errors import ExportError
from cutaway.serve.writing import check_writable, said_in_words

__all__ = ["check_place"]

# By these an earlier page is known, which a new one may replace.
_MARKS = ("index.html", "model.json", "service-worker.js")


def check_place(folder: Path) -> None:
    """Refuses to put a page where something else is, or where nothing can be written.

    Raises:
        ExportError: It is a file or a link, a folder that holds something other than an earlier page, or the folder in
            which it would be made takes no new ones.
    """
    check_writable(folder, "--web")
    with said_in_words(folder, "--web"):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise ExportError(f"{folder} is no folder.", hint="Give the name of a folder: --web site.")
        is_taken = folder.is_dir() and any(folder.iterdir())
    if is_taken and not all((folder / name).is_file() for name in _MARKS):
        raise ExportError(
            f"{folder} holds something other than an earlier page.", hint="Give the name of a new folder: --web site."
        )
