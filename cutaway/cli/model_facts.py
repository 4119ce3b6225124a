"""What a person says of a network from elsewhere: its classes and its preprocessing; read without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cutaway.errors import SettingsError
from cutaway.settings import in_words, read_yaml

if TYPE_CHECKING:
    from cutaway.preprocessing.spec import Preprocessing

IMAGENET = "imagenet"


def classes_named(text: str) -> tuple[str, ...]:
    """The labels behind `FILE`, `a,b,c` or `imagenet`, in the order of the network's outputs.

    Raises:
        SettingsError: It is no file and no list.
        DataError: The file holds no labels.
    """
    from cutaway.settings.labels import read_labels

    if Path(text).exists():
        return read_labels(Path(text))
    if text == IMAGENET:
        from torchvision.models import ResNet18_Weights

        return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
    labels = tuple(label.strip() for label in text.split(","))
    if len(labels) < 2:
        raise SettingsError(
            f"There is no file {text} with classes.",
            hint="Give a file with a label a line, or the labels with commas between them.",
        )
    if "" in labels:
        raise SettingsError(f"A class in '{text}' has no name.")
    return labels


def preprocessing_named(text: str) -> Preprocessing:
    """The description behind `imagenet` or the name of a JSON or YAML file.

    Raises:
        SettingsError: It is neither, or not valid.
    """
    from cutaway.preprocessing.spec import imagenet

    if text == IMAGENET and not Path(text).exists():
        return imagenet()
    return preprocessing_of(read_yaml(Path(text)))


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
