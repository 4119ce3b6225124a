"""Puts real pictures with their true labels beside an exported file, for the page's gallery."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from cutaway.datasets import Dataset, Split
from cutaway.errors import ExportError, ServingError
from cutaway.preprocessing.spec import Pixels
from cutaway.serve.examples import (
    INDEX,
    MOST_EXAMPLES,
    Example,
    ExampleEntry,
    ExampleIndex,
    examples_folder,
    examples_of,
)
from cutaway.serve.writing import replace_folder

# Up to here a PNG, which changes no pixel, takes less than 200 kB.
_MOST_PNG_PIXELS = 2**16


def write_examples(model: Path, dataset: Dataset, count: int) -> tuple[Example, ...]:
    """Writes some pictures of the test split, or of the validation split where there is none, beside an ONNX file.

    They are decoded and encoded again, so what a camera noted in them (where, when) is not published; small ones keep
    every pixel, larger ones become JPEG. An earlier folder of examples is replaced, and nothing else is touched.

    Args:
        model: The ONNX file; `model.examples` is written beside `model.onnx`.
        dataset: What the network was trained on, or other pictures of its classes; not yet prepared.
        count: How many; all of the split, where there are fewer. As many of each class as there can be.

    Returns:
        The examples, sorted by class.

    Raises:
        ExportError: There are no such pictures, something else is in the way, or the folder cannot be written.
    """
    check_examples(model, count)
    split = split_for_examples(dataset)
    places = choose(split.labels, count)
    contents, entries = _encoded(split, places, dataset.classes)
    index = ExampleIndex(split="test" if len(dataset.test) else "valid", examples=entries)
    contents[INDEX] = index.model_dump_json(indent=2).encode() + b"\n"
    replace_folder(examples_folder(model), contents)
    return examples_of(model, dataset.classes)


def check_examples(model: Path, count: int) -> None:
    """Refuses, before any work is done, what `write_examples` would refuse after it.

    Raises:
        ExportError: The number is out of range, or where the examples go is something else.
    """
    if not 1 <= count <= MOST_EXAMPLES:
        raise ExportError(f"--examples is {count}, and it is a number from 1 to {MOST_EXAMPLES}.")
    folder = examples_folder(model)
    if not folder.is_symlink() and not folder.exists():
        return
    hint = "Move it away, or give the file another name with --out."
    try:
        ours = {example.path.name for example in examples_of(model)} | {INDEX}
    except ServingError as error:
        raise ExportError(
            f"The examples go to {folder}, and what is there is none: {error.message}", hint=hint
        ) from error
    others = sorted(path.name for path in folder.iterdir() if path.name not in ours)
    if others:
        raise ExportError(f"The examples in {folder} would be replaced, and {others[0]} there is none.", hint=hint)


def split_for_examples(dataset: Dataset) -> Split:
    """The test split, or the validation split where there is none.

    Raises:
        ExportError: There is neither.
    """
    split = dataset.test if len(dataset.test) else dataset.valid
    if not len(split):
        raise ExportError(
            "Examples are pictures that the network did not learn, and there is neither a test nor a validation split.",
            hint="Name other pictures with --data, or leave --examples out.",
        )
    return split


def choose(labels: npt.NDArray[np.int64], count: int) -> list[int]:
    """Places of pictures, always the same: as many of each class as there can be, spread over the pictures of each.

    Args:
        labels: int64 [N], at least one.
        count: How many; all, where there are fewer.

    Returns:
        Places in `labels`, sorted by class.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    quotas = np.zeros(len(classes), np.int64)
    while missing := min(count, len(labels)) - int(quotas.sum()):
        open_ = np.flatnonzero(quotas < sizes)
        quotas[open_[_spread(len(open_), missing)] if missing < len(open_) else open_] += 1
    return [
        int(place)
        for one, quota in zip(classes, quotas, strict=True)
        for place in np.flatnonzero(labels == one)[_spread(int((labels == one).sum()), int(quota))]
    ]


def _spread(length: int, count: int) -> npt.NDArray[np.int64]:
    """`count` different places spread evenly over `length`."""
    return np.linspace(0, length - 1, count).round().astype(np.int64)


def _encoded(
    split: Split, places: Sequence[int], classes: Sequence[str]
) -> tuple[dict[str, bytes], tuple[ExampleEntry, ...]]:
    contents, entries = {}, []
    for number, place in enumerate(places):
        suffix, content = _as_file(split.image(place))
        contents[f"{number}.{suffix}"] = content
        label = int(split.labels[place])
        entries.append(ExampleEntry(file=f"{number}.{suffix}", label=classes[label], class_index=label))
    return contents, tuple(entries)


def _as_file(picture: Pixels) -> tuple[str, bytes]:
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    file = io.BytesIO()
    if image.width * image.height <= _MOST_PNG_PIXELS:
        image.save(file, "PNG", optimize=True)
        return "png", file.getvalue()
    image.save(file, "JPEG", quality=95, subsampling=0)
    return "jpg", file.getvalue()
