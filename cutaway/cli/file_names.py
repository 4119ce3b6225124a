"""Names of files that are written, made of what somebody else chose: other files' names, and layers'."""

from __future__ import annotations

import hashlib
import os

# A file's name may have 255 bytes; a class, its probability, a number and a suffix stand behind a picture's.
_LONGEST_STEM = 180


def stem_of(name: str) -> str:
    """What is written of a file: its name without the suffix, shortened where nothing could stand behind it."""
    # What pathlib leaves of `...png` is `..`, the folder above.
    return shortened(os.path.splitext(name)[0])  # noqa: PTH122


def layer_words(layer: str) -> str:
    """What a file's name says of a layer: `layer1.0-relu#0`. A layer of somebody's own may be called anything."""
    return shortened("".join("-" if char in ":/\\\0\n" else char for char in layer))


def shortened(name: str) -> str:
    """The name, or the beginning of a long one and a hash of all of it, which no other long name has."""
    written = os.fsencode(name)
    if len(written) <= _LONGEST_STEM:
        return name
    digest = hashlib.sha256(written).hexdigest()[:12]
    return f"{written[: _LONGEST_STEM - len(digest) - 1].decode(errors='ignore')}-{digest}"
