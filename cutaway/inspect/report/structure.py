"""Sections on what the network is made of: layers, first kernels, feature maps, weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cutaway.errors import InspectionError
from cutaway.inspect import layer_rendering
from cutaway.inspect.canvas import pixels
from cutaway.inspect.features import FeatureMaps, feature_maps
from cutaway.inspect.histogram_figures import draw_updates, draw_updates_over_time, draw_weights_over_time
from cutaway.inspect.histogram_findings import findings
from cutaway.inspect.histograms import Histogram, bias_histograms, weight_histograms
from cutaway.inspect.kernels import Kernels, first_kernels
from cutaway.inspect.passes import activation_histograms, loss_gradient_histograms
from cutaway.inspect.report.document import data_uri
from cutaway.inspect.report.subject import Subject
from cutaway.inspect.run_histories import Moment
from cutaway.inspect.tiles import Scale, fitted, kernel_tiles, map_tile, scale_of

MOST_MAPS, MOST_KERNELS, MOST_HISTOGRAMS, MOST_OPEN_ROWS, MOST_OVER_TIME = 16, 64, 48, 60, 24
MOST_MEASURED, MOST_FINDINGS = 256, 8
_TILE_SIDE = 96
_BATCH = 64
# Of a network's multiply-accumulates, forward and back: some ten seconds.
_BUDGET = 1e11


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


@dataclass(frozen=True)
class Group:
    """Histograms of one kind.

    Attributes:
        kind: Of what.
        said: What they show.
        histograms: The first of them.
        total: How many there are.
        findings: What is odd about any of them, the first of the sentences.
    """

    kind: str
    said: str
    histograms: tuple[Histogram, ...]
    total: int
    findings: tuple[str, ...]


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


def gather_weights(subject: Subject) -> Mapping[str, Any] | None:
    """How the weights of each layer are distributed, and its gradients and activations over some pictures."""
    number = min(len(subject.samples), MOST_MEASURED, max(1, int(_BUDGET / max(1, subject.table.totals.macs))))
    indices = [at * len(subject.samples) // number for at in range(number)] if number else []
    seen = f"{number:,} picture{'' if number == 1 else 's'}"

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(indices), _BATCH):
            some = indices[start : start + _BATCH]
            pictures = subject.inputs([subject.picture(index) for index in some])
            yield pictures, subject.answers.labels[some].to(subject.device)

    groups = [
        _group("weights", "How the weights of each layer are distributed.", weight_histograms(subject.network)),
        _group("biases and norms", "The parameters of one dimension.", bias_histograms(subject.network)),
    ]
    try:
        gradients = loss_gradient_histograms(subject.network, batches())
        groups.append(_group("gradients", f"Of the loss over {seen}, at each parameter.", gradients))
    except InspectionError:
        pass  # frozen weights, or a network that gradients cannot be taken of
    try:
        activations = activation_histograms(subject.network, (pictures for pictures, _ in batches()))
        groups.append(_group("activations", f"What each layer returns over {seen}.", activations))
    except InspectionError:
        pass  # a network that is one module, or a split without pictures
    groups = [group for group in groups if group.total]
    return {"groups": groups} if groups else None


def gather_history(subject: Subject) -> Mapping[str, Any] | None:
    """How weights and updates develop from bundle to bundle; of fewer than three bundles, the last step alone."""
    if len(subject.history) < 3:  # two are no course
        return _last_step(subject.history[-1]) if subject.history else None
    is_moving = any(moment.updates for moment in subject.history)
    return {
        "weights": pixels(draw_weights_over_time(subject.history, limit=MOST_OVER_TIME)),
        "updates": pixels(draw_updates_over_time(subject.history, limit=MOST_OVER_TIME)) if is_moving else None,
        "last_step": None,
    }


def _last_step(moment: Moment) -> Mapping[str, Any] | None:
    """How far the last step moved each parameter, for a run that kept too few bundles to follow it through."""
    if not moment.last_step:
        return None
    rate = "" if moment.lr is None else f", learning rate {moment.lr:.3g}"
    title = f"Updates in step {moment.step}{rate}"
    return {
        "weights": None,
        "updates": None,
        "last_step": pixels(draw_updates(moment.last_step, title=title, limit=MOST_HISTOGRAMS)),
    }


def _group(kind: str, said: str, histograms: tuple[Histogram, ...]) -> Group:
    odd = findings(histograms, are_activations=kind == "activations")
    return Group(kind, said, histograms[:MOST_HISTOGRAMS], len(histograms), odd[:MOST_FINDINGS])


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
