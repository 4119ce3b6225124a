"""Weights in a second file, which only networks above 2 GB need: read from the file's own folder, verified, or refused.

ONNX lets a file name any other file of the machine for its weights. Here it may name one: a plain file beside it, by
the name, size and hash that its sealed metadata gives. What was hashed is what ONNX Runtime is handed.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cutaway.errors import ServingError

__all__ = ["ExternalData", "read_external_data"]

_AT_A_TIME = 2**24
_HINT = "Copy both files again, or export again."
_NOT_THROUGH_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class ExternalData(BaseModel):
    """The second file of a network that is too large for one.

    Attributes:
        file: Its name, in the same folder.
        num_bytes: Its size.
        sha256: Of its content, in hexadecimal.
    """

    model_config = ConfigDict(frozen=True)

    file: str = Field(min_length=1, max_length=255)
    num_bytes: int = Field(ge=1, le=2**40)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")

    @field_validator("file")
    @classmethod
    def _is_a_plain_name(cls, name: str) -> str:
        if name in (".", "..") or any(char in name for char in "/\\:\0"):
            raise ValueError(f"{name!r} is not the plain name of a file")
        return name


def read_external_data(folder: Path, expected: ExternalData) -> memoryview:
    """The content of the second file, mapped and not copied.

    Args:
        folder: Of the ONNX file.
        expected: From the ONNX file's metadata.

    Raises:
        ServingError: There is no such file, or it is a link, no plain file, or not the one that was exported.
    """
    path = folder / expected.file
    if path.is_symlink():
        raise ServingError(f"The weights {path} are a link, and must be a file.", hint="Copy the file itself.")
    try:
        descriptor = os.open(path, os.O_RDONLY | _NOT_THROUGH_LINKS)
    except FileNotFoundError as error:
        raise ServingError(
            f"The ONNX file keeps its weights in {expected.file}, which is not beside it.",
            hint="Keep both files in one folder, under the names that they were exported with.",
        ) from error
    except OSError as error:
        raise ServingError(f"The weights {path} cannot be read: {error.strerror}.") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ServingError(f"The weights {path} are not a file.")
        if found.st_size != expected.num_bytes:
            message = f"The weights {path} have {found.st_size} bytes, and {expected.num_bytes} were exported."
            raise ServingError(message, hint=_HINT)
        content = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptor)
    hasher = hashlib.sha256()
    for start in range(0, len(content), _AT_A_TIME):
        hasher.update(content[start : start + _AT_A_TIME])
    if hasher.hexdigest() != expected.sha256:
        raise ServingError(f"The weights {path} are damaged: they are not those that were exported.", hint=_HINT)
    return content
