"""The folder that browsers upload pictures to: private, bounded, and gone with the process."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shutil
import stat
import tempfile
import time
from functools import cache
from pathlib import Path

QUOTA_BYTES = 2**30
KEPT = "gallery-"
"""How the names of folders begin that stay also when they are empty."""
QUOTA_FILES = 10_000
_OF_AN_UPLOAD = re.compile(r"[0-9a-f]{64}")
"""How Gradio names the folder of an upload."""


@cache
def upload_folder() -> Path:
    """The one folder that pictures are uploaded to: readable by this user alone, removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="cutaway-")).resolve()
    # Gradio asks the environment, at many places and times.
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_EXAMPLES_CACHE"] = str(folder / "examples")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def make_room(max_bytes: int | None = None) -> None:
    """Removes the oldest uploads until no more than `max_bytes`, by default `QUOTA_BYTES`, and `QUOTA_FILES` are left.

    Each upload has a folder of its own, which goes with it, or a minute after Gradio deleted the upload alone.
    """
    max_bytes = QUOTA_BYTES if max_bytes is None else max_bytes
    files = []
    for path in upload_folder().rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another request may be making room too
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                files.append((status.st_mtime, status.st_size, path))
            elif _OF_AN_UPLOAD.fullmatch(path.name) and status.st_mtime < time.time() - 60:
                with contextlib.suppress(OSError):  # it is not empty
                    path.rmdir()
    total = sum(size for _, size, _ in files)
    left = len(files)
    for _, size, path in sorted(files):
        if total <= max_bytes and left <= QUOTA_FILES:
            return
        path.unlink(missing_ok=True)
        if path.parent != upload_folder() and not path.parent.name.startswith(KEPT):
            with contextlib.suppress(OSError):  # it holds another, or has just been given one
                path.parent.rmdir()
        total -= size
        left -= 1
