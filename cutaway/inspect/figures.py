"""Figures for files and for TensorBoard, drawn by matplotlib without its global state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cutaway.inspect.canvas import ACCENT, ALARM, SOFT, grid, new_figure, plain
from cutaway.inspect.canvas import legible as legible
from cutaway.inspect.canvas import pixels as pixels
from cutaway.inspect.canvas import png as png
from cutaway.inspect.features import FeatureMaps, Rank
from cutaway.inspect.histograms import Histogram
from cutaway.inspect.kernels import Kernels
from cutaway.inspect.tiles import Scale, color_ramp, kernel_tiles, map_tile, scale_of
from cutaway.preprocessing.spec import Pixels


def draw_feature_maps(
    found: FeatureMaps,
    *,
    picture: int = 0,
    limit: int = 32,
    rank: Rank = "activation",
    scaled: Literal["shared", "map"] = "shared",
) -> Figure:
    """A layer's most active or most varied channels on one picture, the first ones first.

    Args:
        found: The maps.
        picture: Which of the pictures.
        limit: How many channels.
        rank: By what they are ordered.
        scaled: All on one scale with one colour bar, so that they can be compared, or each on its own with its own
            bar, so that faint ones can be seen.
    """
    channels = found.strongest(picture, limit, rank=rank)
    maps = found.maps[picture, channels]
    scales = [scale_of(maps)] * len(maps) if scaled == "shared" else [scale_of(values) for values in maps]
    tiles = [map_tile(values, scale) for values, scale in zip(maps, scales, strict=True)]
    height, width = found.maps.shape[2:]
    title = f"{found.layer.name}: {len(channels)} of {found.maps.shape[1]} channels, {height}×{width}"
    names = [str(channel) for channel in channels]
    if scaled == "map":
        return _mosaic(tiles, names, f"{title}, each on its own scale", None, is_colour=False, own=scales)
    return _mosaic(tiles, names, title, scale_of(maps), is_colour=False)


def draw_kernels(kernels: Kernels, *, limit: int = 64) -> Figure:
    """The first convolution's kernels on one scale; in colour, mid-grey is zero."""
    tiles, scale = kernel_tiles(kernels.weights[:limit])
    height, width = kernels.weights.shape[2:]
    title = f"{kernels.layer}: {len(tiles)} of {len(kernels.weights)} kernels, {height}×{width}"
    return _mosaic(tiles, [str(index) for index in range(len(tiles))], title, scale, kernels.weights.shape[1] == 3)


def draw_histograms(histograms: Sequence[Histogram], *, title: str = "Weights", limit: int = 48) -> Figure:
    """One small histogram per tensor, each over its own range."""
    shown = histograms[:limit]
    columns = min(4, max(1, len(shown)))
    rows = max(1, math.ceil(len(shown) / columns))
    figure = new_figure(3.1 * columns, 1.5 * rows + 0.5)
    figure.suptitle(plain(title if len(shown) == len(histograms) else f"{title}: {len(shown)} of {len(histograms)}"))
    for index, axes in enumerate(grid(figure, rows, columns)):
        if index >= len(shown):
            axes.set_axis_off()
            continue
        histogram = shown[index]
        axes.stairs(histogram.counts, histogram.edges, fill=True, color=ACCENT)
        axes.set_title(plain(histogram.name), fontsize=8, loc="left")
        axes.tick_params(labelsize=7, colors=SOFT)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
        if not histogram.is_finite:
            text = f"{histogram.num_nan} NaN, {histogram.num_infinite} infinite"
            axes.text(0.98, 0.9, text, transform=axes.transAxes, ha="right", va="top", fontsize=7, color=ALARM)
    return figure


def _mosaic(
    tiles: Sequence[Pixels],
    names: Sequence[str],
    title: str,
    scale: Scale | None,
    is_colour: bool,
    own: Sequence[Scale] = (),
) -> Figure:
    columns = min(8 if scale is not None else 6, max(1, len(tiles)))
    rows = max(1, math.ceil(len(tiles) / columns))
    figure = new_figure(max(4.0, (1.05 if scale is not None else 1.6) * columns + 0.6), 1.2 * rows + 0.6)
    figure.suptitle(plain(title), fontsize=10)
    axes_grid = grid(figure, rows, columns)
    for index, axes in enumerate(axes_grid):
        axes.set_axis_off()
        if index < len(tiles):
            axes.imshow(tiles[index], interpolation="nearest")
            axes.set_title(names[index], fontsize=7, color=SOFT, pad=2)
        if index < len(own) and own[index].high > own[index].low:
            _add_bar(figure, own[index], axes)
    if scale is not None and not is_colour and scale.high > scale.low:
        _add_bar(figure, scale, axes_grid)
    return figure


def _add_bar(figure: Figure, scale: Scale, beside: Axes | list[Axes]) -> None:
    ramp = ScalarMappable(Normalize(scale.low, scale.high), ListedColormap(color_ramp(scale) / 255))
    bar = figure.colorbar(ramp, ax=beside, fraction=0.03 if isinstance(beside, list) else 0.06, pad=0.02)
    bar.ax.tick_params(labelsize=7 if isinstance(beside, list) else 5, colors=SOFT)
