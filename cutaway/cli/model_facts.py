"""What a person says of a network from elsewhere: its classes and its preprocessing; read without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cutaway.errors import SettingsError
from cutaway.settings import in_words, read_yaml

if TYPE_CHECKING:
    from cutaway.preprocessing.spec import Preprocessing

IMAGENET = "imagenet"
"""What a person writes for ImageNet's classes or preprocessing."""


def classes_named(text: str) -> tuple[str, ...]:
    """The labels behind `FILE`, `a,b,c` or `imagenet`, in the order of the network's outputs.

    Raises:
        SettingsError: It is no file and no list.
        DataError: The file holds no labels.
    """
    from cutaway.settings.labels import read_labels

    if _is_there(text):
        return read_labels(Path(text))
    if text == IMAGENET:
        return imagenet_classes()
    labels = tuple(label.strip() for label in text.split(","))
    if len(labels) < 2:
        raise SettingsError(
            f"There is no file {text} with classes.",
            hint="Give a file with a label a line, or the labels with commas between them.",
        )
    if "" in labels:
        raise SettingsError(f"A class in '{text}' has no name.")
    return labels


def imagenet_classes() -> tuple[str, ...]:
    """ImageNet's 1000 labels in the order of torchvision's networks; two of them are there twice.

    Raises:
        SettingsError: They come with torchvision, which is not installed.
    """
    try:
        from torchvision.models import ResNet18_Weights
    except ModuleNotFoundError as error:
        raise SettingsError(
            "ImageNet's labels come with torchvision, which is not installed.",
            hint="pip install torchvision, or give a file with a label a line.",
        ) from error
    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def is_imagenet(text: str) -> bool:
    """Whether ImageNet is meant, and no file of that name."""
    return text == IMAGENET and not _is_there(text)


def _is_there(text: str) -> bool:
    """Whether it names a file; a hundred labels with commas between them are longer than a name can be."""
    return os.path.exists(text)  # noqa: PTH110 - Path.exists raises where a name is too long


def preprocessing_named(text: str, size: int = 224) -> Preprocessing:
    """The description behind `imagenet`, of pictures of this size, or behind the name of a JSON or YAML file.

    Raises:
        SettingsError: It is neither, or not valid.
    """
    from cutaway.preprocessing.spec import imagenet

    return imagenet(size) if is_imagenet(text) else preprocessing_of(read_yaml(Path(text)))


def preprocessing_of(values: Mapping[str, Any]) -> Preprocessing:
    """The description that these values make.

    Raises:
        SettingsError: They make none.
    """
    from cutaway.preprocessing.spec import Preprocessing

    try:
        return Preprocessing.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        if not fault["loc"]:
            said = fault["msg"].removeprefix("Value error, ")
            raise SettingsError(f"The preprocessing is not valid: {said}.") from error
        sentence, hint = in_words(error)
        raise SettingsError(f"The preprocessing is not valid. {sentence}", hint=hint) from error
