"""Figures of faithfulness: the curves of deletion and insertion, and of the check by randomisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cutaway.inspect.canvas import INK, SOFT, grid, new_figure, plain
from cutaway.inspect.faithfulness.comparison import MethodComparison
from cutaway.inspect.faithfulness.randomisation import Randomisation

# Okabe and Ito's colours, which the colour-blind tell apart; the styles repeat where there are more methods.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#a6761d")
_STYLES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
_GREY = ("#8a8f98", "#b4b8bf")
# Of many methods, no corner is free.
_UNDER_LEGEND: dict[str, Any] = {"facecolor": "white", "framealpha": 0.8, "edgecolor": "none"}
_SAID = {
    "deletion": ("strongest pixels taken away first", "lower is better"),
    "insertion": ("strongest pixels put in first", "higher is better"),
}


def draw_curves(found: MethodComparison) -> Figure:
    """Deletion and insertion, the mean over pictures by method; reference maps are grey. The legend tells the areas."""
    kinds = [curve.kind for curve in next(iter(found.curves.values()))]
    figure = new_figure(5.2 * len(kinds), 4.6)
    title = f"Mean probability of the explained class over {found.num_pictures} pictures"
    figure.suptitle(title, fontsize=10, color=INK, x=0.01, ha="left")
    for at, (axes, kind) in enumerate(zip(grid(figure, 1, len(kinds)), kinds, strict=True)):
        what, which = _SAID[kind]
        curves = {method: curves[at] for method, curves in found.curves.items()}
        down = kind == "deletion"
        # In the order of their areas, so that the legend reads as the ranking.
        for method in sorted(curves, key=lambda name: float(curves[name].area.mean()), reverse=not down):
            curve = curves[method]
            mean = curve.probabilities.mean(0).cpu().numpy()
            label = f"{method}  {float(curve.area.mean()):.3f}"
            axes.plot(curve.shares.cpu().numpy() * 100, mean, label=label, **_line(method, found))
        axes.set_title(f"{kind}: {what}\narea under the curve, {which}", fontsize=8, loc="left", color=INK)
        axes.set_xlabel("% of the pixels " + ("taken away" if down else "put in"), fontsize=8, color=SOFT)
        _tidied(axes)
        axes.legend(fontsize=7, **_UNDER_LEGEND, loc="upper right" if down else "lower right")
    return figure


def draw_randomisation(found: Mapping[str, Randomisation]) -> Figure:
    """How alike each method's maps stay while the network is randomised from the top down, mean and standard error."""
    first = next(iter(found.values()))
    has_similarity = all(bool(one.similarity.isfinite().all()) for one in found.values())
    figure = new_figure(5.4 * (1 + has_similarity), 4.8)
    count = first.rank_correlation.shape[1]
    title = f"Maps of the same {count} pictures while a copy of the network is randomised from the top down"
    figure.suptitle(title, fontsize=10, color=INK, x=0.01, ha="left")
    panels = [("rank correlation of magnitudes", "rank_correlation"), ("structural similarity (SSIM)", "similarity")]
    steps = range(len(first.layers) + 1)
    names = ["as trained", *map(plain, first.layers)]
    for axes, (name, key) in zip(grid(figure, 1, 1 + has_similarity), panels, strict=False):
        for number, (method, one) in enumerate(found.items()):
            values = getattr(one, key).numpy()
            mean = np.concatenate([[1.0], values.mean(1)])
            error = values.std(1, ddof=1) / values.shape[1] ** 0.5 if values.shape[1] > 1 else np.zeros(len(values))
            spread = np.concatenate([[0.0], error])
            colour, style = _COLOURS[number % len(_COLOURS)], _STYLES[number // len(_COLOURS) % 3]
            label = f"{method}  {mean[-1]:.2f}"
            axes.plot(steps, mean, marker="o", markersize=3, label=label, color=colour, linestyle=style)
            axes.fill_between(steps, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
        axes.set_xticks(list(steps), names, rotation=90, fontsize=7)
        axes.set_title(
            f"{name} with the map as trained\nnear 0 at the right end: the map depends on the weights",
            fontsize=8,
            loc="left",
            color=INK,
        )
        axes.axhline(0, color=_GREY[1], linewidth=0.8, zorder=0)
        axes.set_xlabel("randomised down to", fontsize=8, color=SOFT)
        _tidied(axes)
        axes.legend(fontsize=7, **_UNDER_LEGEND)
    return figure


def _line(method: str, found: MethodComparison) -> dict[str, Any]:
    if method in found.references:
        number = found.references.index(method)
        return {"color": _GREY[number // 2 % 2], "linestyle": _STYLES[1 + number % 2], "linewidth": 1.2, "zorder": 1}
    own = [name for name in found.methods if name not in found.references].index(method)
    return {"color": _COLOURS[own % len(_COLOURS)], "linestyle": _STYLES[own // len(_COLOURS) % 3], "linewidth": 1.6}


def _tidied(axes: Axes) -> None:
    axes.tick_params(labelsize=7, colors=SOFT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GREY[1])
