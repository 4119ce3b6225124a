"""Example pictures beside an ONNX file, for the page's gallery: where they lie, and how they are read from a stranger.

`model.onnx` has them in the folder `model.examples`: pictures as PNG or JPEG, and `index.json` with the true label of
each. Only names that the exporter gives are taken, and no links, so no picture is read from anywhere else.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cutaway.errors import ServingError

__all__ = ["INDEX", "MOST_EXAMPLES", "Example", "ExampleEntry", "ExampleIndex", "examples_folder", "examples_of"]

INDEX = "index.json"
MOST_EXAMPLES = 1000
_LARGEST_INDEX = 2**20
_HINT = "Make them again with `cutaway export RUN --examples N`, or remove the folder."


class ExampleEntry(BaseModel):
    """One picture in the index.

    Attributes:
        file: Its name in the folder: a number, and `png` or `jpg`.
        label: Its true class.
        class_index: The same in output order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(pattern=r"^[0-9]{1,4}\.(png|jpg)$")
    label: str = Field(max_length=1000)
    class_index: int = Field(ge=0, lt=2**31)


class ExampleIndex(BaseModel):
    """What `index.json` says.

    Attributes:
        format_version: Of this description.
        split: What the pictures were taken from; never what the network was trained on.
        examples: In the order in which to show them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    split: Literal["valid", "test"]
    examples: tuple[ExampleEntry, ...] = Field(min_length=1, max_length=MOST_EXAMPLES)

    @model_validator(mode="after")
    def _names_no_picture_twice(self) -> ExampleIndex:
        names = [example.file for example in self.examples]
        if len(set(names)) < len(names):
            raise ValueError("a picture is there twice")
        return self


@dataclass(frozen=True)
class Example:
    """An example picture.

    Attributes:
        path: A file; whoever shows it decodes it as any picture of a stranger.
        label: Its true class.
        class_index: The same in output order.
    """

    path: Path
    label: str
    class_index: int


def examples_folder(model: Path | str) -> Path:
    """Where the examples of an ONNX file lie, whether or not there are any: `model.examples` for `model.onnx`."""
    model = Path(model)
    return model.with_name(f"{model.stem}.examples")


def examples_of(model: Path | str, classes: Sequence[str] | None = None) -> tuple[Example, ...]:
    """The example pictures beside an ONNX file; none where it has no such folder.

    Args:
        model: The ONNX file.
        classes: Of the file, which the labels must be of; not compared where None.

    Raises:
        ServingError: The folder, its index or a picture is missing, a link, damaged, or of other classes.

    Example:
        >>> [example.label for example in examples_of("model.onnx")]
    """
    folder = examples_folder(model)
    if not folder.is_symlink() and not folder.exists():
        return ()
    _check(folder, is_folder=True)
    index = _read_index(folder / INDEX)
    for entry in index.examples:
        _check(folder / entry.file)
        if classes is not None and (entry.class_index >= len(classes) or classes[entry.class_index] != entry.label):
            raise ServingError(f"The examples in {folder} are of other classes than {model}.", hint=_HINT)
    return tuple(Example(folder / entry.file, entry.label, entry.class_index) for entry in index.examples)


def _read_index(path: Path) -> ExampleIndex:
    if _check(path) > _LARGEST_INDEX:
        raise ServingError(f"The index of examples {path} is too large.", hint=_HINT)
    try:
        return ExampleIndex.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"The index of examples {path} is damaged: {where or 'it'}: {first['msg']}."
        raise ServingError(message, hint=_HINT) from error
    except OSError as error:
        raise ServingError(f"The index of examples {path} cannot be read: {error.strerror}.") from error


def _check(path: Path, *, is_folder: bool = False) -> int:
    """The size of what is there, which is a folder or a file of its own and no link.

    Raises:
        ServingError: It is something else, or nothing.
    """
    try:
        found = path.lstat()
    except FileNotFoundError as error:
        raise ServingError(f"Of the examples {path} is missing.", hint=_HINT) from error
    except OSError as error:
        raise ServingError(f"The examples {path} cannot be read: {error.strerror}.") from error
    if stat.S_ISLNK(found.st_mode):
        raise ServingError(f"The examples {path} are a link, which is not followed.", hint=_HINT)
    if not (stat.S_ISDIR if is_folder else stat.S_ISREG)(found.st_mode):
        raise ServingError(f"The examples {path} are no {'folder' if is_folder else 'file'}.", hint=_HINT)
    return found.st_size
