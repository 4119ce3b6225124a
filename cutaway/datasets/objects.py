"""Data sets from a person's own objects: arrays, and map-style data sets as torch has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from cutaway.datasets.split import SPLITS, Split, fingerprint
from cutaway.datasets.splitting import stratified
from cutaway.errors import DataError
from cutaway.images import Pixels

Arrays = tuple[npt.ArrayLike, npt.ArrayLike]
"""Pictures and labels, as `Dataset.from_arrays` takes them."""


class MapDataset(Protocol):
    """What torch calls a map-style data set: a length, and a (picture, label) for each index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class Gathered:
    """What a `Dataset` is made of, from objects in memory; see there."""

    name: str
    classes: tuple[str, ...]
    train: Split
    valid: Split
    test: Split
    fingerprint: str
    source: str
    in_memory: bool


def gather_arrays(
    splits: Sequence[Arrays | None], classes: Sequence[str] | None, name: str, valid_share: float, seed: int
) -> Gathered:
    """Checks the arrays of train, valid and test; see `Dataset.from_arrays`."""
    parts = zip(SPLITS, splits, strict=True)
    checked = {split: _from_arrays(name, split, *part) for split, part in parts if part is not None}
    return _assembled(name, "arrays", checked, classes, valid_share, seed)


def gather_items(
    splits: Sequence[MapDataset | None], classes: Sequence[str] | None, name: str | None, valid_share: float, seed: int
) -> Gathered:
    """Reads the samples of train, valid and test; see `Dataset.from_torch`."""
    title = name or type(splits[0]).__name__
    parts = zip(SPLITS, splits, strict=True)
    checked = {split: _from_items(title, split, part) for split, part in parts if part is not None}
    own = getattr(splits[0], "classes", None)
    if classes is None and isinstance(own, list | tuple):
        classes = [str(label) for label in own]
    return _assembled(title, "a map-style data set", checked, classes, valid_share, seed)


_Samples = tuple[Pixels | tuple[Pixels, ...], npt.NDArray[np.int64]]


def _assembled(
    name: str,
    kind: str,
    parts: dict[str, _Samples],
    classes: Sequence[str] | None,
    valid_share: float,
    seed: int,
) -> Gathered:
    highest = max((int(labels.max()) for _, labels in parts.values() if len(labels)), default=0)
    names = tuple(str(label) for label in (classes or range(highest + 1)))
    if len(set(names)) < len(names):
        raise DataError(f"Two classes of {name} have the same name.", hint="Give every class a name of its own.")
    splits = {split: _split(name, split, *samples, len(names)) for split, samples in parts.items()}
    if "valid" not in splits:
        train = splits["train"]
        keys = [str(index) for index in range(len(train))]
        chosen = stratified(train.labels, keys, {"valid": valid_share}, seed=seed)
        splits |= {split: train.take(chosen[split], name=split) for split in ("train", "valid")}
    if "test" not in splits:
        splits["test"] = splits["train"].take([], name="test")
    train, valid, test = (splits[split] for split in ("train", "valid", "test"))
    in_memory = all(split.images is not None for split in splits.values())
    digest = fingerprint(names, (train, valid, test))
    return Gathered(name, names, train, valid, test, digest, f"{name} from {kind} in memory", in_memory=in_memory)


def _split(
    name: str, split: str, pictures: Pixels | tuple[Pixels, ...], labels: npt.NDArray[np.int64], num_classes: int
) -> Split:
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        starts_at_one = len(labels) and labels.min() == 1 and labels.max() == num_classes
        raise DataError(
            f"Label {labels[wrong[0]]} of sample {wrong[0]} in the {split} split of {name} is out of range: with "
            f"{num_classes} classes, labels go from 0 to {num_classes - 1}.",
            hint="The labels seem to start at 1: subtract 1." if starts_at_one else "Give the name of every class.",
        )
    if isinstance(pictures, tuple):
        return Split(split, labels, photos=pictures)
    return Split(split, labels, pictures)


def _from_arrays(name: str, split: str, images: npt.ArrayLike, labels: npt.ArrayLike) -> _Samples:
    pixels = _as_array(images)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    where = f"The {split} images of {name}"
    if pixels.ndim != 4 or pixels.shape[3] not in (1, 3):
        hint = "The channels come last: images.permute(0, 2, 3, 1)." if pixels.ndim == 4 else ""
        raise DataError(f"{where} have the shape {list(pixels.shape)}, not [N, H, W] or [N, H, W, 1 or 3].", hint=hint)
    known = _as_array(labels)
    if known.shape != (len(pixels),):
        raise DataError(f"{where} are {len(pixels)}, but their labels have the shape {list(known.shape)}.")
    return _grey_levels(pixels, where), _whole_numbers(known, f"The {split} labels of {name}")


def _from_items(name: str, split: str, items: MapDataset) -> _Samples:
    where = f"The {split} split of {name}"
    pictures, labels = [], []
    for index in range(len(items)):
        picture, label = _item(items, index, where)
        pictures.append(picture)
        labels.append(label)
    if pictures and not np.array_equal(pictures[0], _item(items, 0, where)[0]):
        raise DataError(
            f"{where} gives another picture each time it is asked for the same one.",
            hint="Leave random transforms out of the data set, and hand them to train() as transform=.",
        )
    whole = _whole_numbers(np.asarray(labels).reshape(-1), f"The labels of {where[0].lower()}{where[1:]}")
    shapes = {picture.shape for picture in pictures}
    if len({shape[2] for shape in shapes}) > 1:
        pictures = [np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture for picture in pictures]
    if len(shapes) == 1:
        return np.stack(pictures), whole
    return tuple(pictures), whole


def _item(items: MapDataset, index: int, where: str) -> tuple[Pixels, Any]:
    """Sample `index` as uint8 [H, W, 1 or 3] and its label."""
    item = items[index]
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise DataError(f"{where} gives no (picture, label) at {index} but {type(item).__name__}.")
    picture, label = item[0], item[1]
    if isinstance(picture, Image.Image):
        picture = picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
        pixels = np.asarray(picture)
    else:
        pixels = _as_array(picture)
        # Torch has the channels first.
        if pixels.ndim == 3 and pixels.shape[2] not in (1, 3) and pixels.shape[0] in (1, 3):
            pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise DataError(
            f"{where} has a picture of shape {list(pixels.shape)} at {index}, with neither 1 nor 3 channels."
        )
    known = _as_array(label)
    if known.size != 1:
        raise DataError(
            f"{where} has a label of shape {list(known.shape)} at {index}, not one whole number.",
            hint="Give each sample the index of its class: one_hot.argmax().",
        )
    return np.ascontiguousarray(_grey_levels(pixels, where)), known.reshape(())


def _grey_levels(pixels: npt.NDArray[Any], where: str) -> Pixels:
    """Pixels as uint8; floating ones are taken as [0, 1], as torchvision's ToTensor gives them."""
    if pixels.dtype == np.uint8:
        return pixels
    if not np.issubdtype(pixels.dtype, np.floating):
        raise DataError(f"{where} are of type {pixels.dtype}.", hint="Give uint8 grey levels, or floats from 0 to 1.")
    if pixels.size and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise DataError(
            f"{where} hold values from {pixels.min():.3g} to {pixels.max():.3g}, which are no floats from 0 to 1.",
            hint="Leave Normalize out: cutaway normalises by the training split's own statistics.",
        )
    levels: Pixels = np.rint(pixels * 255).astype(np.uint8)
    return levels


def _whole_numbers(labels: npt.NDArray[Any], where: str) -> npt.NDArray[np.int64]:
    whole: npt.NDArray[np.int64] = labels.astype(np.int64) if labels.dtype.kind in "iufb" else np.empty(0, np.int64)
    if len(whole) != len(labels) or not np.array_equal(whole, labels):
        raise DataError(f"{where} are no whole numbers.", hint="Give each sample the index of its class.")
    return whole


def _as_array(values: Any) -> npt.NDArray[Any]:
    """A numpy array of whatever holds numbers; a tensor of any device among them, without importing torch."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values)
