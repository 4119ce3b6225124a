from __future__ import annotations

import math
from pathlib import Path

import torch

from cutaway.inspect.canvas import png
from cutaway.inspect.histogram_figures import draw_updates, draw_updates_over_time, draw_weights_over_time
from cutaway.inspect.histograms import tensor_histogram
from cutaway.inspect.run_histories import Moment
from cutaway.inspect.updates import UpdateRatio


def moment(step: int, values: torch.Tensor) -> Moment:
    update = UpdateRatio("w", 1.0, 0.002 * step, 2)
    return Moment(Path("b"), step, 0.1, (tensor_histogram("w", values),), (update,), (UpdateRatio("w", 1.0, 0.01, 1),))


def test_bands_show_quantiles_at_each_bundle() -> None:
    values = torch.linspace(0, 100, 101)
    history = [moment(step, values * step) for step in (1, 2, 3)]
    figure = draw_weights_over_time(history)
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == "w"
    (median,) = axes.lines
    assert list(median.get_xdata()) == [1, 2, 3]
    assert [round(value) for value in median.get_ydata()] == [50, 100, 150]
    extents = [band.get_datalim(axes.transData).intervaly for band in axes.collections]
    assert [tuple(map(round, extent)) for extent in extents] == [(0, 300), (5, 285), (25, 225)]
    assert png(figure)


def test_what_is_no_number_is_marked_and_does_not_stop_the_figure() -> None:
    history = [
        moment(1, torch.ones(3)),
        moment(2, torch.tensor([1.0, math.nan])),
        moment(3, torch.full((2,), math.nan)),
    ]
    axes = draw_weights_over_time(history).axes[0]
    assert axes.texts[0].get_text() == "NaN or infinite"
    assert [line.get_xdata()[0] for line in axes.lines[1:]] == [2, 3]
    assert png(draw_weights_over_time(history[:1]))


def test_updates_are_drawn_as_shares_of_a_step() -> None:
    figure = draw_updates_over_time([moment(step, torch.ones(2)) for step in (1, 2)])
    line, rings = figure.axes[0].lines
    assert [round(value, 6) for value in line.get_ydata()] == [0.001, 0.002]
    assert list(rings.get_ydata()) == [0.01, 0.01]
    updates = [UpdateRatio("a$b$", 1.0, 0.5, 10), UpdateRatio("still", 1.0, 0.0, 1)]
    figure = draw_updates(updates, title="Updates")
    (dots,) = figure.axes[0].lines
    assert list(dots.get_xdata()) == [0.05]
    assert "1 without a ratio" in figure.axes[0].get_title(loc="left")
    assert png(figure)
    assert png(draw_updates([], title="Updates"))
