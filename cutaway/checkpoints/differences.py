"""How two bundles differ: in what they were told, in what they reached, and in their weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import safetensors
import torch
from pydantic import JsonValue
from torch import Tensor

from cutaway.checkpoints.bundle import tensor_shapes, verify_bundle
from cutaway.checkpoints.manifest import Manifest
from cutaway.checkpoints.runs import Stored
from cutaway.errors import BundleError
from cutaway.progress import Track, silent

_COMPARED = ("network", "classes", "preprocessing", "data", "environment")


@dataclass(frozen=True)
class Distance:
    """How far one tensor lies from another of the same name and shape.

    Attributes:
        name: The tensor.
        relative: L2 norm of the difference over that of the first; 0 where both are zero.
        largest: Largest absolute difference of a value.
        cosine: Cosine of the angle between them; NaN where one is zero.
    """

    name: str
    relative: float
    largest: float
    cosine: float


@dataclass(frozen=True)
class Difference:
    """What differs between two bundles.

    Attributes:
        settings: Name -> values of both, None where a bundle has none; only those that differ.
        metrics: Name -> values of both, None where a bundle has none.
        distances: Of the tensors that both have in the same shape, the largest relative change first.
        only_first: Tensors that only the first has, or has in another shape.
        only_second: The same of the second.
    """

    settings: dict[str, tuple[JsonValue, JsonValue]]
    metrics: dict[str, tuple[float | None, float | None]]
    distances: tuple[Distance, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def num_equal(self) -> int:
        """Tensors that are the same in both."""
        return sum(distance.largest == 0 for distance in self.distances)


def compare_bundles(first: Stored, second: Stored, *, track: Track = silent) -> Difference:
    """Compares two bundles after reading every byte of both; two tensors at a time are in memory.

    Raises:
        BundleError: One of them is damaged.
    """
    first, second = (Stored(stored.path, verify_bundle(stored.path), verified=True) for stored in (first, second))
    told = [_flat(_described(stored.manifest)) for stored in (first, second)]
    metrics = [stored.manifest.metrics for stored in (first, second)]
    shapes = [tensor_shapes(stored.path, "model") for stored in (first, second)]
    common = [name for name, (_, shape) in shapes[0].items() if name in shapes[1] and shapes[1][name][1] == shape]
    return Difference(
        settings={
            name: (told[0].get(name), told[1].get(name))
            for name in dict.fromkeys([*told[0], *told[1]])
            if told[0].get(name) != told[1].get(name)
        },
        metrics={
            name: (metrics[0].get(name), metrics[1].get(name)) for name in dict.fromkeys([*metrics[0], *metrics[1]])
        },
        distances=tuple(sorted(_distances(first, second, common, track), key=_by_change)),
        only_first=tuple(name for name in shapes[0] if name not in common),
        only_second=tuple(name for name in shapes[1] if name not in common),
    )


def _described(manifest: Manifest) -> dict[str, JsonValue]:
    values: dict[str, JsonValue] = manifest.model_dump(mode="json", include=set(_COMPARED))
    return manifest.configuration | values


def _flat(values: Mapping[str, JsonValue], prefix: str = "") -> dict[str, JsonValue]:
    """Nested settings under names with dots."""
    flat: dict[str, JsonValue] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _distances(first: Stored, second: Stored, names: list[str], track: Track) -> Iterator[Distance]:
    files = [stored.path / "model.safetensors" for stored in (first, second)]
    try:
        with safetensors.safe_open(files[0], framework="pt") as one, safetensors.safe_open(files[1], "pt") as other:
            for name in track(names, "comparing"):
                yield _distance(name, one.get_tensor(name), other.get_tensor(name))
    except (safetensors.SafetensorError, OSError) as error:
        raise BundleError(f"{files[0]} or {files[1]} cannot be read: {error}.") from error


def _distance(name: str, one: Tensor, other: Tensor) -> Distance:
    one, other = one.double().reshape(-1), other.double().reshape(-1)
    if torch.equal(one, other):
        # Without arithmetic, which would find a distance between two infinities.
        return Distance(name, 0.0, 0.0, 1.0 if float(one.norm()) else math.nan)
    change = other - one
    norm, other_norm = float(one.norm()), float(other.norm())
    moved = float(change.norm())
    return Distance(
        name,
        relative=moved / norm if norm else math.inf,
        largest=float(change.abs().max()),
        cosine=float(one @ other) / (norm * other_norm) if norm and other_norm else math.nan,
    )


def _by_change(distance: Distance) -> tuple[float, str]:
    # What is not a number has changed the most.
    return (-math.inf if math.isnan(distance.relative) else -distance.relative, distance.name)
