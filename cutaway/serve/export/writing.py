"""Puts a file in its place whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cutaway.errors import ExportError


@contextmanager
def whole_or_nothing(out: Path, data: bytes) -> Iterator[Path]:
    """Writes beside `out` under a temporary name, and gives it its name when the block ends without an error.

    After an error or an interruption nothing is left behind, and a file that was there before is still there. On
    file systems where renaming is not atomic (some network shares) a reader may see neither for a moment.

    Args:
        out: Where the file goes; its folder is made where missing.
        data: The whole content.

    Yields:
        The temporary path, written and flushed to disk, for whoever must check it first.

    Raises:
        ExportError: The file cannot be written.
    """
    if out.is_dir():
        raise ExportError(f"{out} is a folder.", hint="Give the name of a file: --out model.onnx.")
    # An .onnx ending, because some readers go by it; a leading dot, because nobody should find it.
    temporary = out.parent / f".tmp-{secrets.token_hex(4)}-{out.name}"
    with _said_in_words(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _said_in_words(out), temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
        with _said_in_words(out):
            temporary.replace(out)
            _flush_folder(out.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _said_in_words(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "Free some space, or give another place with --out."
        raise ExportError(f"{out} cannot be written: {error.strerror or error}.", hint=hint) from error


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
