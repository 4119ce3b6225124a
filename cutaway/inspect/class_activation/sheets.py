"""A sheet of one picture's class activation maps: a row a class, a column a method."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from cutaway.heatmaps import color_table, overlay
from cutaway.inspect.canvas import SOFT, fonts, new_figure, plain
from cutaway.preprocessing.spec import Pixels

_CELL = 2.4  # inches


@dataclass(frozen=True)
class SheetCell:
    """One map on a sheet.

    Attributes:
        heatmap: Raw, float [h, w].
        empty: The sentence that stands in its place where it is empty; None where it is not.
    """

    heatmap: npt.NDArray[np.floating]
    empty: str | None = None


@dataclass(frozen=True)
class Sheet:
    """What a sheet shows.

    Attributes:
        picture: uint8 [H, W, 1 or 3], as the network saw it.
        methods: The columns' titles.
        rows: The rows' titles, e.g. `coat 93.1 %`.
        cells: One row of cells per title in `rows`, one cell per method.
        layers: Where the maps were read.
        opacity: Of the maps over the picture.
    """

    picture: Pixels
    methods: Sequence[str]
    rows: Sequence[str]
    cells: Sequence[Sequence[SheetCell]]
    layers: str
    opacity: float = 0.5


def draw_sheet(sheet: Sheet) -> Figure:
    """The picture, its maps laid over it, and the colours' scale.

    Every map is scaled by its own strongest point, whose raw value stands below it, so colours compare places within
    a map and not maps with each other.
    """
    height, width = sheet.picture.shape[:2]
    num_rows, num_columns = len(sheet.rows), 1 + len(sheet.methods)
    cell_height = _CELL * min(2.0, max(0.5, height / width)) + 0.45
    figure = new_figure(_CELL * num_columns + 0.9, cell_height * num_rows + 0.6)
    heading = plain(f"{sheet.layers}; colours laid over at {sheet.opacity:.0%}")
    figure.suptitle(heading, fontsize=9, color=SOFT)
    axes = figure.subplots(num_rows, num_columns, squeeze=False)
    for place in axes.flat:
        place.set_xticks([])
        place.set_yticks([])
        place.spines[:].set_visible(False)
    letters = {"family": list(fonts())}
    for row, title in enumerate(sheet.rows):
        first = axes[row, 0]
        first.imshow(_in_color(sheet.picture))
        # Below the picture, since names may be too long to stand beside it.
        first.set_xlabel("\n".join(textwrap.wrap(plain(title), 30)), fontsize=9, **letters)
        if row == 0:
            first.set_title("picture", fontsize=9, color=SOFT)
        for column, (method, cell) in enumerate(zip(sheet.methods, sheet.cells[row], strict=True), start=1):
            place = axes[row, column]
            if row == 0:
                place.set_title(method, fontsize=9, color=SOFT)
            if cell.empty is None:
                place.imshow(overlay(sheet.picture, cell.heatmap, opacity=sheet.opacity))
                place.set_xlabel(f"strongest {float(cell.heatmap.max()):.3g}", fontsize=8, color=SOFT)
                continue
            place.imshow(_faded(sheet.picture))
            told = "\n".join(textwrap.wrap(plain(cell.empty), 26))
            middle = {"ha": "center", "va": "center", "transform": place.transAxes}
            place.text(0.5, 0.5, told, fontsize=8, **middle, **letters)
    ramp = ScalarMappable(Normalize(0, 1), ListedColormap(color_table() / 255))
    bar = figure.colorbar(ramp, ax=list(axes.flat), fraction=0.025, pad=0.02)
    bar.set_label("share of a map's strongest point", fontsize=8, color=SOFT)
    bar.ax.tick_params(labelsize=7, colors=SOFT)
    return figure


def _in_color(picture: Pixels) -> Pixels:
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture


def _faded(picture: Pixels) -> Pixels:
    """So light that a sentence on it can be read."""
    faded: Pixels = np.rint(255 - (255 - _in_color(picture).astype(np.float32)) * 0.18).astype(np.uint8)
    return faded
