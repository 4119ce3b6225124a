from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from cutaway.inspect.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, bars, curves, number
from cutaway.inspect.histograms import tensor_histogram


def test_a_curve_stands_where_its_values_say() -> None:
    journal = [{"epoch": 1, "train_loss": 1.0}, {"epoch": 2, "train_loss": 0.5}, {"epoch": 3, "train_loss": 0.0}]
    (chart,) = curves(journal)
    (line,) = chart.lines
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM
    assert line.dots == ((left, top), ((left + right) / 2, (top + bottom) / 2), (right, bottom))
    assert line.path == f"M{left}.0 {top}.0L{(left + right) / 2} {(top + bottom) / 2}L{right}.0 {bottom}.0"
    assert [(tick.at, tick.text) for tick in chart.x_ticks] == [(dot[0], str(i)) for i, dot in enumerate(line.dots, 1)]
    assert [tick.text for tick in chart.y_ticks] == ["0", "0.25", "0.5", "0.75", "1"]
    assert (line.name, line.last) == ("training", "0")


def test_each_quantity_has_its_chart_and_constant_rates_none() -> None:
    journal = [
        {"epoch": i, "train_loss": 1 / i, "valid_loss": 2 / i, "train_accuracy": 0.5, "valid_accuracy": 0.25, "lr": 0.1}
        for i in (1, 2)
    ]
    assert [chart.title for chart in curves(journal)] == ["Loss", "Accuracy"]
    journal[1]["lr"] = 0.05
    charts = curves(journal)
    assert [chart.title for chart in charts] == ["Loss", "Accuracy", "Learning rate"]
    assert [line.last for line in charts[1].lines] == ["50.0%", "25.0%"]
    assert curves([]) == ()


@pytest.mark.parametrize("broken", [math.nan, math.inf, "nan", None])
def test_what_is_no_number_is_left_out(broken: object) -> None:
    (chart,) = curves([{"epoch": 1, "train_loss": 1.0}, {"epoch": 2, "train_loss": broken}])
    assert len(chart.lines[0].dots) == 1
    assert curves([{"epoch": 1, "train_loss": broken}]) == ()


def test_labels_at_the_lines_ends_do_not_cover_each_other() -> None:
    journal = [{"epoch": 1, "train_loss": 0.1001, "valid_loss": 0.1, "test_loss": 0.1002}]
    heights = sorted(line.end[1] for line in curves(journal)[0].lines)
    assert all(b - a >= 30 for a, b in pairwise(heights))
    assert heights[-1] <= HEIGHT - BOTTOM


def test_long_runs_have_few_marks() -> None:
    (chart,) = curves([{"epoch": i, "train_loss": 1.0} for i in range(1, 1001)])
    assert len(chart.x_ticks) <= 9


def test_bars_reach_from_the_floor_to_the_highest_count() -> None:
    found = tensor_histogram("w", torch.tensor([0.0, 0, 1, 2]), bins=2)
    assert bars(found) == "M0 40H0.00V0.00H50.00V0.00H100V40Z"
    assert "nan" not in bars(tensor_histogram("w", torch.empty(0)))


def test_numbers_are_short() -> None:
    assert [number(value) for value in (0.123456, 1e-9, math.nan)] == ["0.1235", "1e-09", "not a finite number"]
