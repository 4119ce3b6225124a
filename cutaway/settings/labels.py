"""Label names in the order of a network's outputs, from a file that a person wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cutaway.errors import DataError

_LARGEST = 16 * 2**20


def read_labels(path: Path) -> tuple[str, ...]:
    """Reads a list of labels: one a line in UTF-8, or a JSON list of strings.

    Raises:
        DataError: The file cannot be read, or a label is empty or no text.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise DataError(f"The labels file {path} is larger than {_LARGEST // 2**20} MB.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"The labels file {path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"The labels file {path} is not UTF-8.", hint="Write one label a line.") from error
    labels = _from_json(path, text) if text.lstrip().startswith("[") else _from_lines(path, text)
    if not labels:
        raise DataError(f"The labels file {path} is empty.", hint="Write one label a line.")
    return tuple(labels)


def distinct(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels with a number after each that was there before: ImageNet has two cranes, a bird and a machine."""
    taken: set[str] = set()
    named = []
    for label in labels:
        name, number = label, 1
        while name in taken or (number > 1 and name in labels):
            number += 1
            name = f"{label} ({number})"
        taken.add(name)
        named.append(name)
    return tuple(named)


def _from_lines(path: Path, text: str) -> list[str]:
    labels = [line.strip() for line in text.rstrip().split("\n")] if text.strip() else []
    if "" in labels:
        raise DataError(f"Line {labels.index('') + 1} of the labels file {path} is empty.", hint="Write a label there.")
    return labels


def _from_json(path: Path, text: str) -> list[str]:
    try:
        labels: list[str] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"The labels file {path} begins as a JSON list and is not valid JSON.") from error
    for number, label in enumerate(labels, 1):
        if not isinstance(label, str) or not label.strip():
            raise DataError(f"Number {number} of the labels file {path} is no text: {label!r}.")
    return labels
