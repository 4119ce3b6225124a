"""Where a command writes: refused before the work begins, and never over a bundle or what else a person has there."""

from __future__ import annotations

import errno
import os
from enum import Enum
from pathlib import Path

from cutaway.errors import SettingsError


class Kind(Enum):
    """A kind of file that is written, with the bytes that each begins with."""

    PNG = b"\x89PNG"
    # Its first field is always the version of the format.
    ONNX = b"\x08"


def require_folder(out: Path) -> None:
    """Refuses to write files into a folder where that cannot be; it may be missing yet.

    Raises:
        SettingsError: It or something above it is a file, or nothing may be written there, or it belongs to a bundle.
    """
    there = next((path for path in (out, *out.parents) if os.path.lexists(path)), Path())
    if not there.is_dir():
        raise SettingsError(f"{there}: {os.strerror(errno.ENOTDIR)}.", hint="A folder is needed there.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise SettingsError(f"{out}: {os.strerror(errno.EACCES)}.", hint="Choose another place.")
    real = out.resolve()
    for path in (real, *real.parents):
        if (path / "manifest.json").is_file() and (path / "model.safetensors").is_file():
            raise SettingsError(f"{path} is a bundle, which never changes.", hint="Choose another --out.")


def require_file(out: Path, kind: Kind) -> None:
    """Refuses to write a file where that cannot be, or over one of another kind.

    Raises:
        SettingsError: There is a folder or a file of another kind of this name, or its folder cannot be written to.
    """
    require_folder(out.parent)
    if out.is_dir():
        raise SettingsError(f"{out} is a folder.", hint="Give the name of a file.")
    if not out.exists():
        return
    with out.open("rb") as file:
        begin = file.read(len(kind.value))
    if begin and begin != kind.value:
        raise SettingsError(
            f"{out} is there, and is no {kind.name} file that a new one could replace.",
            hint="Choose another name, or remove it first.",
        )
