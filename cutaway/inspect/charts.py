"""The geometry of the report's charts; the template draws them as inline SVG, so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cutaway.inspect.histograms import Histogram

WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 88, 12, 30

_NAMES = {"train": "training", "valid": "validation", "test": "test"}
_TITLES = {"loss": "Loss", "accuracy": "Accuracy", "lr": "Learning rate"}


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where it stands in the drawing, and what it says."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """One series: a name, its colour's number, an SVG path, and the label at its end."""

    name: str
    color: int
    path: str
    dots: tuple[tuple[float, float], ...]
    end: tuple[float, float]
    last: str


@dataclass(frozen=True)
class LineChart:
    """A chart over epochs, in the units of a drawing of `WIDTH` x `HEIGHT`."""

    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def curves(journal: Sequence[Mapping[str, Any]]) -> tuple[LineChart, ...]:
    """One chart for losses, one for accuracies, one for the learning rate where it changes.

    Args:
        journal: One row per epoch with `epoch` and any of `train_loss`, `valid_loss`, `train_accuracy`,
            `valid_accuracy`, `lr`. What is no finite number is left out.
    """
    charts = []
    for quantity in ("loss", "accuracy", "lr"):
        keys = ["lr"] if quantity == "lr" else [f"{split}_{quantity}" for split in _NAMES]
        series = {key: [(float(row["epoch"]), float(row[key])) for row in journal if _has(row, key)] for key in keys}
        series = {key: points for key, points in series.items() if points}
        changes = any(value != points[0][1] for points in series.values() for _, value in points)
        if series and (changes or quantity != "lr"):
            charts.append(_chart(quantity, series))
    return tuple(charts)


def bars(histogram: Histogram) -> str:
    """A histogram's outline as an SVG path in a drawing of 100 x 40."""
    highest = max(int(histogram.counts.max(initial=0)), 1)
    width = 100 / len(histogram.counts)
    steps = [
        f"H{index * width:.2f}V{40 - 40 * int(count) / highest:.2f}" for index, count in enumerate(histogram.counts)
    ]
    return f"M0 40{''.join(steps)}H100V40Z"


def number(value: float) -> str:
    """A value in three or four significant digits."""
    return f"{value:.4g}" if math.isfinite(value) else "not a finite number"


def _has(row: Mapping[str, Any], key: str) -> bool:
    return all(
        isinstance(row.get(name), int | float) and math.isfinite(row[name]) and not isinstance(row[name], bool)
        for name in ("epoch", key)
    )


def _chart(quantity: str, series: Mapping[str, list[tuple[float, float]]]) -> LineChart:
    epochs = [epoch for points in series.values() for epoch, _ in points]
    values = [value for points in series.values() for _, value in points]
    x_low, x_high = min(epochs), max(epochs)
    if x_low == x_high:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    y_marks = _round_marks(min(values), max(values), 5)
    y_low, y_high = y_marks[0], y_marks[-1]

    def x(epoch: float) -> float:
        return round(LEFT + (epoch - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(TOP + (y_high - value) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM), 1)

    lines = []
    for key, points in series.items():
        places = tuple((x(epoch), y(value)) for epoch, value in sorted(points))
        path = "M" + "L".join(f"{across} {down}" for across, down in places)
        split = key.partition("_")[0]
        color = 0 if key == "lr" else list(_NAMES).index(split)
        last = max(points)[1]
        text = f"{last:.1%}" if quantity == "accuracy" else number(last)
        lines.append(Line(_NAMES.get(split, ""), color, path, places, places[-1], text))
    step = max(1, math.ceil((x_high - x_low) / 8))
    x_ticks = [Tick(x(mark), str(mark)) for mark in range(math.ceil(x_low), math.floor(x_high) + 1, step)]
    y_ticks = [Tick(y(mark), f"{mark:.4g}") for mark in y_marks]
    return LineChart(_TITLES[quantity], tuple(_apart(lines)), tuple(x_ticks), tuple(y_ticks))


def _apart(lines: list[Line]) -> list[Line]:
    """Moves the labels at the lines' ends so far apart that each can be read."""
    placed: list[Line] = []
    lowest = -math.inf
    for line in sorted(lines, key=lambda line: line.end[1]):
        lowest = max(line.end[1], lowest + 30)
        placed.append(Line(line.name, line.color, line.path, line.dots, (line.end[0], lowest), line.last))
    over = max(0.0, lowest - (HEIGHT - BOTTOM - 8))
    return [Line(i.name, i.color, i.path, i.dots, (i.end[0], i.end[1] - over), i.last) for i in placed]


def _round_marks(low: float, high: float, count: int) -> list[float]:
    """Round numbers that enclose a range, about as many as asked for."""
    span = (high - low) or abs(high) or 1.0
    rough = span / (count - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return [round(index * step, 12) for index in range(first, last + 1)]
