"""The confusion matrix as a figure, whole or as the block of the classes that are confused most."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from cutaway.inspect.canvas import INK, SOFT, fonts, legible, new_figure, shortened
from cutaway.inspect.classwise import ClassScores

_LONGEST_NAME = 26
_FEWEST_RED = 0.02
_UNWRITTEN = "Numbers stand for names that no installed font can write, counted from 0 in the order of the classes."

Figures = Literal["counts", "truth", "prediction"]
"""What a cell says: how many samples, their per cent of the row (the truth), or of the column (the prediction)."""

_TITLES: dict[Figures, str] = {
    "counts": "samples; colour: share of the row",
    "truth": "per cent of the row, so the diagonal is the recall",
    "prediction": "per cent of the column, so the diagonal is the precision",
}


def draw_confusion(scores: ClassScores, *, figures: Figures = "counts", limit: int = 30) -> Figure:
    """The confusion matrix: rows are the truth, columns the prediction.

    What is right is blue on a scale to 1, what is wrong red on a scale to the largest mistake, which would be too pale
    to see beside it. Of more classes than `limit`, those of the largest confusions are shown, classes that are taken
    for each other side by side, and what was taken for any other class in a column of its own. A name whose script no
    installed font can write is replaced by its number.

    Args:
        scores: The answers, by class.
        figures: What the cells say.
        limit: The most classes shown.
    """
    chosen = scores.most_confused(limit)
    is_part = len(chosen) < len(scores.classes)
    counts = scores.matrix[np.ix_(chosen, chosen)]
    whole = scores.matrix.sum(1)[chosen][:, None] if figures != "prediction" else scores.matrix.sum(0)[chosen]
    shares = counts / np.maximum(whole, 1)
    names = [_name(scores, index) for index in chosen]
    columns = list(names)
    if is_part and figures != "prediction":
        elsewhere = scores.matrix.sum(1)[chosen] - counts.sum(1)
        counts = np.column_stack([counts, elsewhere])
        shares = np.column_stack([shares, elsewhere / np.maximum(whole[:, 0], 1)])
        columns.append("any other")
    room = 0.09 * max(map(len, names)) + 0.6
    figure = new_figure(room + 1.5 + 0.46 * len(columns), room + 0.9 + 0.42 * len(chosen))
    axes = figure.add_subplot()
    _fill(figure, axes, counts, shares, figures)
    family: dict[str, Any] = {"parse_math": False, "family": list(fonts()), "fontsize": 8}
    axes.set_xticks(range(len(columns)), columns, rotation=90, **family)
    axes.set_yticks(range(len(names)), names, **family)
    axes.set_xlabel("predicted (columns)")
    axes.set_ylabel("truth (rows)")
    part = f"\nthe {len(chosen)} of {len(scores.classes):,} classes of the largest confusions" if is_part else ""
    axes.set_title(
        f"{scores.accuracy:.1%} of {scores.num_samples:,} recognised{part}\n{_TITLES[figures]}",
        fontsize=9,
        loc="left",
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    unwritten = any(legible(scores.classes[index], "") == "" for index in chosen)
    if unwritten:
        figure.supxlabel(
            # Letters of 7 points are about 0.06 inches wide.
            textwrap.fill(_UNWRITTEN, int(figure.get_figwidth() / 0.06)),
            fontsize=7,
            color=SOFT,
        )
    return figure


def _fill(
    figure: Figure, axes: Axes, counts: npt.NDArray[np.int64], shares: npt.NDArray[np.float64], figures: Figures
) -> None:
    is_right: npt.NDArray[np.bool_] = np.arange(counts.shape[0])[:, None] == np.arange(counts.shape[1])
    # One class's mistakes, not the column of all others' together, which may run off the scale.
    pairs = shares[:, : len(shares)]
    largest = max(_FEWEST_RED, float(pairs[~is_right[:, : len(shares)]].max(initial=0)))
    parts: Sequence[tuple[str, npt.NDArray[np.bool_], float, str]] = (
        ("Blues", is_right, 1.0, "right"),
        ("Reds", ~is_right, largest, "wrong"),
    )
    for name, mask, high, title in parts:
        scale = Normalize(0, high)
        colors: Colormap = colormaps[name]
        image = axes.imshow(np.ma.array(shares, mask=~mask), cmap=colors, norm=scale, interpolation="nearest")
        bar = figure.colorbar(
            image, ax=axes, fraction=0.025, aspect=32, pad=0.01, format=lambda share, _: f"{100 * share:.3g} %"
        )
        bar.ax.set_title(title, fontsize=7, color=SOFT)
        bar.ax.tick_params(labelsize=7, colors=SOFT)
        for row, column in zip(*np.nonzero(mask & (counts > 0)), strict=True):
            share = shares[row, column]
            axes.text(
                column,
                row,
                f"{counts[row, column]}" if figures == "counts" else _per_cent(share),
                ha="center",
                va="center",
                fontsize=7 if counts.max() < 10_000 else 6,
                color="white" if _is_dark(colors(scale(share))) else INK,
            )


def _name(scores: ClassScores, index: int) -> str:
    return shortened(legible(scores.classes[index], f"class {index}"), _LONGEST_NAME)


def _per_cent(share: float) -> str:
    return "<1" if share < 0.005 else f"{100 * share:.0f}"


def _is_dark(color: tuple[float, float, float, float]) -> bool:
    red, green, blue, _ = color
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
