"""Figures for files and for TensorBoard, drawn by matplotlib without its global state."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from cutaway.inspect.classwise import ClassScores
from cutaway.inspect.features import FeatureMaps, Kernels
from cutaway.inspect.histograms import Histogram
from cutaway.inspect.tiles import Scale, color_ramp, kernel_tiles, map_tile, scale_of
from cutaway.preprocessing.spec import Pixels

_INK, _SOFT, _ACCENT = "#1b1d21", "#5d636d", "#2f5fd0"
_FONTS = (
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "Noto Sans SC",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Arial Unicode MS",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Bengali",
    "Noto Sans Tamil",
    "Noto Sans Thai",
)


def draw_feature_maps(found: FeatureMaps, *, picture: int = 0, limit: int = 32) -> Figure:
    """A layer's most active channels on one picture, the strongest first, on one scale with a colour bar."""
    channels = found.strongest(picture, limit)
    maps = found.maps[picture, channels]
    scale = scale_of(maps)
    tiles = [map_tile(values, scale) for values in maps]
    height, width = found.maps.shape[2:]
    title = f"{found.layer.name}: {len(channels)} of {found.maps.shape[1]} channels, {height}×{width}"
    return _mosaic(tiles, [str(channel) for channel in channels], title, scale, is_colour=False)


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
    figure = _figure(3.1 * columns, 1.5 * rows + 0.5)
    figure.suptitle(_plain(title if len(shown) == len(histograms) else f"{title}: {len(shown)} of {len(histograms)}"))
    for index, axes in enumerate(_grid(figure, rows, columns)):
        if index >= len(shown):
            axes.set_axis_off()
            continue
        histogram = shown[index]
        axes.stairs(histogram.counts, histogram.edges, fill=True, color=_ACCENT)
        axes.set_title(_plain(histogram.name), fontsize=8, loc="left", parse_math=False)
        axes.tick_params(labelsize=7, colors=_SOFT)
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
        if not histogram.is_finite:
            text = f"{histogram.num_nan} NaN, {histogram.num_infinite} infinite"
            axes.text(0.98, 0.9, text, transform=axes.transAxes, ha="right", va="top", fontsize=7, color="#b3372c")
    return figure


def draw_confusion(scores: ClassScores, *, limit: int = 30) -> Figure:
    """The confusion matrix: rows are the truth, columns the prediction, colour the share of the row.

    Of more classes than `limit`, those with the most mistakes are shown. A name whose script no installed font can
    write is replaced by its number.
    """
    chosen = scores.most_confused(limit)
    matrix = scores.matrix[np.ix_(chosen, chosen)]
    support = scores.matrix.sum(1)[chosen]
    shares = matrix / np.maximum(support, 1)[:, None]
    names = [legible(scores.classes[index], f"class {index}") for index in chosen]
    side = 2.2 + 0.42 * len(chosen)
    figure = _figure(side, side)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(chosen))
    axes.set_xticks(ticks, names, rotation=90, fontsize=8, parse_math=False, family=list(_fonts()))
    axes.set_yticks(ticks, names, fontsize=8, parse_math=False, family=list(_fonts()))
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    part = "" if len(chosen) == len(scores.classes) else f", the {len(chosen)} classes with the most mistakes"
    axes.set_title(f"{scores.accuracy:.1%} of {scores.num_samples:,} recognised{part}", fontsize=10)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        color = "white" if shares[row, column] > 0.55 else _INK
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=7, color=color)
    return figure


def png(figure: Figure, *, dpi: int = 120) -> bytes:
    """A figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def pixels(figure: Figure, *, dpi: int = 120) -> Pixels:
    """A figure as uint8 [H, W, 3], as TensorBoard takes it."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()  # type: ignore[no-untyped-call]


def legible(text: str, instead: str) -> str:
    """The text where an installed font has all of its characters, or else a stand-in."""
    return text if all(character.isspace() or ord(character) in _characters() for character in text) else instead


def _mosaic(tiles: Sequence[Pixels], names: Sequence[str], title: str, scale: Scale, is_colour: bool) -> Figure:
    columns = min(8, max(1, len(tiles)))
    rows = max(1, math.ceil(len(tiles) / columns))
    figure = _figure(max(4.0, 1.05 * columns + 0.6), 1.2 * rows + 0.6)
    figure.suptitle(_plain(title), fontsize=10, parse_math=False)
    grid = _grid(figure, rows, columns)
    for index, axes in enumerate(grid):
        axes.set_axis_off()
        if index < len(tiles):
            axes.imshow(tiles[index], interpolation="nearest")
            axes.set_title(names[index], fontsize=7, color=_SOFT, pad=2)
    if not is_colour and scale.high > scale.low:
        ramp = ScalarMappable(Normalize(scale.low, scale.high), ListedColormap(color_ramp(scale) / 255))
        bar = figure.colorbar(ramp, ax=grid, fraction=0.03, pad=0.02)
        bar.ax.tick_params(labelsize=7, colors=_SOFT)
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _grid(figure: Figure, rows: int, columns: int) -> list[Axes]:
    return list(figure.subplots(rows, columns, squeeze=False).flat)


def _plain(text: str) -> str:
    return legible(text, text.encode("ascii", "replace").decode())


@cache
def _fonts() -> tuple[str, ...]:
    """The installed ones of the fonts that between them write most scripts; matplotlib takes each glyph's first."""
    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    return tuple(name for name in _FONTS if name in installed)


@cache
def _characters() -> frozenset[int]:
    paths = {entry.fname for entry in font_manager.fontManager.ttflist if entry.name in _fonts()}
    return frozenset(code for path in paths for code in font_manager.get_font(path).get_charmap())
