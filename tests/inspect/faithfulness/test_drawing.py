"""Figures of faithfulness."""

import pytest
import torch

from cutaway.inspect.canvas import pixels
from cutaway.inspect.faithfulness import Randomisation, compare_methods
from cutaway.inspect.faithfulness.drawing import draw_curves, draw_randomisation


def test_curves_are_the_means_and_the_legend_is_in_the_order_of_the_areas(corner, bright, where_it_looks):
    bright[:, :, 6:] = bright[:, :, :, 6:] = 0
    found = compare_methods(corner, bright, {"there": where_it_looks}, 0, metrics=["deletion", "insertion"])
    figure = draw_curves(found)
    assert [axes.get_title(loc="left").split(":")[0] for axes in figure.axes] == ["deletion", "insertion"]
    for axes, at in zip(figure.axes, (0, 1), strict=True):
        lines = {line.get_label().split("  ")[0]: line for line in axes.lines}
        assert set(lines) == set(found.methods)
        wanted = found.curves["there"][at].probabilities.mean(0).numpy()
        assert lines["there"].get_ydata() == pytest.approx(wanted)
        areas = [float(text.get_text().split("  ")[1]) for text in axes.get_legend().texts]
        assert areas == sorted(areas, reverse=at == 1)
    assert pixels(figure).std() > 10
    assert len(draw_curves(compare_methods(corner, bright, {"a": where_it_looks}, metrics=["insertion"])).axes) == 1


def test_the_check_starts_at_one_and_leaves_out_what_was_not_measured():
    ranks = torch.rand(3, 4, dtype=torch.float64)
    whole = draw_randomisation({"a": Randomisation(("z", "y", "x"), ranks, ranks)})
    assert len(whole.axes) == 2
    assert whole.axes[0].lines[0].get_ydata() == pytest.approx([1, *ranks.mean(1).tolist()])
    labels = [label.get_text() for label in whole.axes[0].get_xticklabels()]
    assert labels == ["as trained", "z", "y", "x"]
    half = draw_randomisation({"a": Randomisation(("z",), ranks[:1, :1], ranks[:1, :1] * float("nan"))})
    assert len(half.axes) == 1
    assert pixels(half).std() > 5
