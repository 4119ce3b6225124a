"""Distributions over time, and updates against weights, drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cutaway.inspect.canvas import ACCENT, ALARM, INK, SOFT, grid, new_figure, plain, shortened
from cutaway.inspect.histograms import Histogram
from cutaway.inspect.run_histories import Moment
from cutaway.inspect.updates import UpdateRatio

_USUAL = (1e-4, 1e-2)


def draw_weights_over_time(history: Sequence[Moment], *, title: str = "Weights over time", limit: int = 48) -> Figure:
    """One small chart per parameter: the median, the middle half, nine tenths and the whole range at each bundle."""
    series = _series(history, [histogram.name for histogram in history[-1].parameters])

    def draw(axes: Axes, name: str) -> None:
        points = [(step, histogram) for step, histogram in series[name] if histogram.num_finite]
        steps = [step for step, _ in points]
        found = [histogram for _, histogram in points]
        lows, highs = [one.smallest for one in found], [one.largest for one in found]
        axes.fill_between(steps, lows, highs, color=ACCENT, alpha=0.12, linewidth=0)
        for outer in (0, 1):
            low, high = ([one.quantiles[at] for one in found] for at in (outer, -1 - outer))
            axes.fill_between(steps, low, high, color=ACCENT, alpha=0.25, linewidth=0)
        axes.plot(steps, [one.quantiles[len(one.quantiles) // 2] for one in found], color=INK, linewidth=1)
        if len(points) == 1:
            axes.plot(steps * 2, [lows[0], highs[0]], color=ACCENT, linewidth=3)
        broken = [step for step, histogram in series[name] if not histogram.is_finite]
        for step in broken:
            axes.axvline(step, color=ALARM, linewidth=1)
        if broken:
            where = axes.transAxes
            axes.text(0.98, 0.95, "NaN or infinite", transform=where, ha="right", va="top", fontsize=7, color=ALARM)

    note = "line: median; bands: middle half, nine tenths, all"
    return _small_multiples(list(series), draw, f"{title} ({note})", limit)


def draw_updates_over_time(history: Sequence[Moment], *, limit: int = 48) -> Figure:
    """One small chart per parameter: the change in a step against its size, on a scale of tenths.

    A line for the distance between bundles, divided by the steps between them; dots for each bundle's very last step.
    """
    names = [histogram.name for histogram in history[-1].parameters]

    def draw(axes: Axes, name: str) -> None:
        between = [
            (moment.step, update.ratio / update.steps)
            for moment in history
            for update in moment.updates
            if update.name == name
        ]
        last = [(moment.step, update.ratio) for moment in history for update in moment.last_step if update.name == name]
        axes.axhspan(*_USUAL, color=SOFT, alpha=0.12, linewidth=0)
        shown = [(step, ratio) for step, ratio in between if _drawable(ratio)]
        axes.plot(*_columns(shown), color=ACCENT, linewidth=1.2, marker="o", markersize=2.5)
        axes.plot(
            *_columns([point for point in last if _drawable(point[1])]), "o", color=INK, markersize=3, fillstyle="none"
        )
        axes.set_yscale("log")
        ratios = [ratio for _, ratio in (*shown, *last) if _drawable(ratio)]
        axes.set_ylim(min([*ratios, _USUAL[0]]) / 2, max([*ratios, _USUAL[1]]) * 2)

    note = "line: between bundles, a step on average; rings: the last step itself; grey: usual"
    return _small_multiples(names, draw, f"Updates against weights ({note})", limit)


def draw_updates(updates: Sequence[UpdateRatio], *, title: str, limit: int = 60) -> Figure:
    """A row per parameter: its change in a step against its size, on a scale of tenths."""
    shown = [update for update in updates if _drawable(update.ratio)][:limit]
    figure = new_figure(7.5, 0.24 * max(len(shown), 2) + 1.1)
    axes = figure.add_subplot()
    places = range(len(shown))
    ratios = [update.ratio / max(update.steps, 1) for update in shown]
    axes.axvspan(*_USUAL, color=SOFT, alpha=0.12, linewidth=0)
    axes.hlines(places, min([*ratios, _USUAL[0]]) / 2, ratios, color=ACCENT, alpha=0.35, linewidth=1)
    axes.plot(ratios, places, "o", color=ACCENT, markersize=4)
    axes.set_xscale("log")
    axes.set_xlim(min([*ratios, _USUAL[0]]) / 2, max([*ratios, _USUAL[1]]) * 2)
    axes.set_ylim(max(len(shown), 1) - 0.5, -0.5)
    axes.set_yticks(places, [plain(shortened(update.name, 44)) for update in shown], fontsize=8)
    axes.set_xlabel("change in a step / size of the weights (grey: usual)", fontsize=8, color=SOFT)
    left_out = len(updates) - len(shown)
    more = f"; {left_out} without a ratio or beyond the first {limit} left out" if left_out else ""
    axes.set_title(plain(title + more), fontsize=10, loc="left")
    axes.tick_params(labelsize=8, colors=INK, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _series(history: Sequence[Moment], names: Sequence[str]) -> dict[str, list[tuple[int, Histogram]]]:
    return {
        name: [
            (moment.step, histogram) for moment in history for histogram in moment.parameters if histogram.name == name
        ]
        for name in names
    }


def _small_multiples(names: Sequence[str], draw: Callable[[Axes, str], None], title: str, limit: int) -> Figure:
    shown = names[:limit]
    columns = min(4, max(1, len(shown)))
    rows = max(1, math.ceil(len(shown) / columns))
    figure = new_figure(max(6.5, 3.1 * columns), 1.7 * rows + 0.6)
    more = "" if len(shown) == len(names) else f", {len(shown)} of {len(names)}"
    figure.suptitle(plain(title + more), fontsize=10)
    for index, axes in enumerate(grid(figure, rows, columns)):
        if index >= len(shown):
            axes.set_axis_off()
            continue
        draw(axes, shown[index])
        axes.set_title(plain(shortened(shown[index], 40)), fontsize=8, loc="left")
        axes.tick_params(labelsize=7, colors=SOFT)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        if index // columns == rows - 1 or index + columns >= len(shown):
            axes.set_xlabel("step", fontsize=7, color=SOFT)
    return figure


def _columns(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]


def _drawable(ratio: float) -> bool:
    return math.isfinite(ratio) and ratio > 0
