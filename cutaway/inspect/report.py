"""The report: everything about a trained network in one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cutaway.images import encode_png
from cutaway.inspect import charts, layer_rendering
from cutaway.inspect.classwise import ClassScores
from cutaway.inspect.features import FeatureMaps, Kernels
from cutaway.inspect.histograms import Histogram
from cutaway.inspect.layers import LayerTable
from cutaway.inspect.tiles import Scale, fitted, kernel_tiles, map_tile, scale_of
from cutaway.preprocessing.spec import Pixels

MOST_MAPS, MOST_KERNELS, MOST_HISTOGRAMS, MOST_CONFUSED, MOST_OPEN_ROWS = 16, 64, 48, 24, 60
PICTURE_SIDE = 224
"""Pictures and overlays stand in the report at about this many pixels."""
_TILE_SIDE = 96


@dataclass(frozen=True)
class Explanation:
    """What speaks for one class in a picture.

    Attributes:
        label: The class.
        probability: What the network gives it.
        overlay: uint8 [H, W, 3], the picture with its heat-map; None where nothing speaks for the class.
    """

    label: str
    probability: float
    overlay: Pixels | None


@dataclass(frozen=True)
class SampleView:
    """One picture with the network's answer.

    Attributes:
        picture: uint8 [H, W, 1 or 3], what the network saw.
        truth: The right class, where it is known.
        explanations: The predicted class first.
    """

    picture: Pixels
    truth: str | None
    explanations: tuple[Explanation, ...]

    @property
    def is_right(self) -> bool:
        """Whether the predicted class is the truth."""
        return self.truth is None or self.explanations[0].label == self.truth


@dataclass(frozen=True)
class ReportData:
    """All that a report shows; what is empty is left out.

    Attributes:
        title: The report's heading, such as the run's name.
        subtitle: A line below it: network, data, when.
        headline: Figures that a reader looks for first, by name.
        settings: The run's configuration.
        journal: One row per epoch, as `charts.curves` takes them.
        layers: The layer table.
        kernels: The first convolution's kernels.
        features: Feature maps; those of their first picture are shown.
        feature_picture: uint8 [H, W, 1 or 3], that picture.
        target_layer: Where the class activation maps were read; None where the network has no such layer.
        samples: Pictures with heat-maps.
        histograms: Distributions of the weights.
        scores: Accuracy and confusion by class, and the split that they were measured on.
        split: Its name.
        environment: Versions and machine.
    """

    title: str
    subtitle: str = ""
    headline: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    journal: Sequence[Mapping[str, Any]] = ()
    layers: LayerTable | None = None
    kernels: Kernels | None = None
    features: tuple[FeatureMaps, ...] = ()
    feature_picture: Pixels | None = None
    target_layer: str | None = None
    samples: tuple[SampleView, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    scores: ClassScores | None = None
    split: str = "test"
    environment: Mapping[str, str] = field(default_factory=dict)


def write_report(out: Path, data: ReportData) -> Path:
    """Writes the report.

    Args:
        out: A file, or a folder (anything without the suffix .html), which gets an `index.html`.
        data: What to show.

    Returns:
        The file, complete or not there at all.
    """
    path = out if out.suffix.lower() in (".html", ".htm") else out / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_text(render_report(data), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def render_report(data: ReportData) -> str:
    """The report as HTML. Every string that comes from a run, a data set or a person is escaped."""
    environment = Environment(
        loader=PackageLoader("cutaway.inspect"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "picture": lambda picture: _data_uri(fitted(picture, PICTURE_SIDE)),
        "bars": charts.bars,
        "number": charts.number,
        "percent": _percent,
        "setting": _setting,
    }
    environment.filters.update(filters)
    return environment.get_template("report.html").render(
        data=data,
        groups=(
            ("Most confident mistakes", [sample for sample in data.samples if not sample.is_right]),
            ("Recognised", [sample for sample in data.samples if sample.is_right]),
        ),
        charts=charts.curves(data.journal),
        epochs=sum("epoch" in row for row in data.journal),
        chart_size=(
            charts.WIDTH,
            charts.HEIGHT,
            charts.LEFT,
            charts.WIDTH - charts.RIGHT,
            charts.HEIGHT - charts.BOTTOM,
        ),
        layers=None if data.layers is None else _layer_view(data.layers),
        kernels=None if data.kernels is None else _kernel_view(data.kernels),
        features=[_feature_view(found) for found in data.features],
        histograms=data.histograms[:MOST_HISTOGRAMS],
        confused=[] if data.scores is None else data.scores.most_confused(MOST_CONFUSED),
        confusions=() if data.scores is None else data.scores.top_confusions(8),
    )


@dataclass(frozen=True)
class _Tiles:
    """Small pictures on one scale."""

    layer: str
    size: str
    shown: int
    total: int
    tiles: list[tuple[str, str]]
    scale: Scale
    silent: list[int]
    is_colour: bool = False


def _feature_view(found: FeatureMaps) -> _Tiles:
    channels = found.strongest(0, MOST_MAPS)
    maps = found.maps[0, channels]
    scale = scale_of(maps)
    tiles = [
        (f"channel {channel}", _data_uri(fitted(map_tile(values, scale), _TILE_SIDE)))
        for channel, values in zip(channels, maps, strict=True)
    ]
    height, width = found.maps.shape[2:]
    return _Tiles(found.layer.name, f"{height}×{width}", len(channels), found.maps.shape[1], tiles, scale, found.silent)


def _kernel_view(kernels: Kernels) -> _Tiles:
    tiles, scale = kernel_tiles(kernels.weights[:MOST_KERNELS])
    height, width = kernels.weights.shape[2:]
    return _Tiles(
        kernels.layer,
        f"{height}×{width}",
        len(tiles),
        len(kernels.weights),
        [(f"kernel {index}", _data_uri(fitted(tile, _TILE_SIDE))) for index, tile in enumerate(tiles)],
        scale,
        [],
        kernels.weights.shape[1] == 3,
    )


def _layer_view(table: LayerTable) -> dict[str, Any]:
    rows = layer_rendering.display_rows(table)
    return {
        "summary": layer_rendering.summary(table),
        "header": layer_rendering.HEADER,
        "numeric": layer_rendering.NUMERIC,
        "rows": rows,
        "totals": layer_rendering.display_totals(table),
        "open": len(rows) <= MOST_OPEN_ROWS,
    }


def _data_uri(picture: Pixels) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_png(picture)).decode("ascii")


def _percent(share: float) -> str:
    return "–" if share != share else f"{share:.1%}"


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
