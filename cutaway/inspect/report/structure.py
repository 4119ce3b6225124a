"""Sections on what the network is made of, and what it makes of a picture: layers, first kernels, feature maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cutaway.inspect import layer_rendering
from cutaway.inspect.features import FeatureMaps, feature_maps
from cutaway.inspect.kernels import Kernels, first_kernels
from cutaway.inspect.report.document import data_uri
from cutaway.inspect.report.subject import Subject
from cutaway.inspect.tiles import Scale, fitted, kernel_tiles, map_tile, scale_of

MOST_MAPS, MOST_KERNELS, MOST_OPEN_ROWS = 16, 64, 60
_TILE_SIDE = 96


@dataclass(frozen=True)
class Tiles:
    """Small pictures on one scale.

    Attributes:
        layer: Whose they are.
        size: Height and width of each, in words.
        shown: How many there are of `total`.
        total: In the layer.
        tiles: A name and a data URI of each.
        scale: What their colours stand for.
        silent: Channels that are zero on every picture looked at.
        is_colour: Whether they show three channels as colours.
    """

    layer: str
    size: str
    shown: int
    total: int
    tiles: list[tuple[str, str]]
    scale: Scale
    silent: list[int]
    is_colour: bool = False


def gather_layers(subject: Subject) -> Mapping[str, Any]:
    """The layer table."""
    rows = layer_rendering.display_rows(subject.table)
    return {
        "summary": layer_rendering.summary(subject.table),
        "header": layer_rendering.HEADER,
        "numeric": layer_rendering.NUMERIC,
        "rows": rows,
        "totals": layer_rendering.display_totals(subject.table),
        "open": len(rows) <= MOST_OPEN_ROWS,
        "memory": None if subject.memory is None else layer_rendering.memory_sentence(subject.memory),
    }


def gather_kernels(subject: Subject) -> Mapping[str, Any] | None:
    """The first convolution's kernels."""
    kernels = first_kernels(subject.network)
    return None if kernels is None else {"kernels": _kernel_tiles(kernels), "found": kernels}


def gather_features(subject: Subject) -> Mapping[str, Any] | None:
    """What layers make of one picture, and which channels are silent on all that were looked at."""
    recognised, mistaken = subject.recognised_and_mistaken
    shown = [*recognised, *mistaken]
    if subject.target is None or not shown:
        return None
    pictures = [subject.picture(index) for index in shown]
    found = feature_maps(subject.network, subject.inputs(pictures))
    return {"picture": pictures[0], "features": [_feature_tiles(maps) for maps in found], "maps": found}


def _feature_tiles(found: FeatureMaps) -> Tiles:
    channels = found.strongest(0, MOST_MAPS)
    maps = found.maps[0, channels]
    scale = scale_of(maps)
    tiles = [
        (f"channel {channel}", data_uri(fitted(map_tile(values, scale), _TILE_SIDE)))
        for channel, values in zip(channels, maps, strict=True)
    ]
    height, width = found.maps.shape[2:]
    return Tiles(found.layer.name, f"{height}×{width}", len(channels), found.maps.shape[1], tiles, scale, found.silent)


def _kernel_tiles(kernels: Kernels) -> Tiles:
    tiles, scale = kernel_tiles(kernels.weights[:MOST_KERNELS])
    height, width = kernels.weights.shape[2:]
    return Tiles(
        kernels.layer,
        f"{height}×{width}",
        len(tiles),
        len(kernels.weights),
        [(f"kernel {index}", data_uri(fitted(tile, _TILE_SIDE))) for index, tile in enumerate(tiles)],
        scale,
        [],
        kernels.weights.shape[1] == 3,
    )
