from __future__ import annotations

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from cutaway.errors import InspectionError
from cutaway.inspect.calibration import measure_calibration
from cutaway.inspect.calibration_figures import draw_calibration
from cutaway.inspect.canvas import png


def answered(count: int = 2000, classes: int = 6) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (count,), generator=generator)
    noise = torch.randn(count, classes, generator=generator)
    return SimpleNamespace(logits=2 * noise + 2 * torch.nn.functional.one_hot(labels, classes), labels=labels)


def sure_of_the_first(confidence: list[float], labels: list[int]) -> SimpleNamespace:
    """Answers over two classes that give the first this probability."""
    first = torch.tensor(confidence, dtype=torch.float64)
    return SimpleNamespace(logits=torch.stack([first.log(), (1 - first).log()], 1), labels=torch.tensor(labels))


def test_bins_and_errors_by_hand() -> None:
    answers = sure_of_the_first([0.9, 0.9, 0.9, 0.9, 0.7], [0, 0, 1, 1, 0])
    found = measure_calibration(answers, num_bins=5)
    assert found.counts.tolist() == [0, 0, 0, 1, 4]
    assert found.recognised[3:].tolist() == [1, 0.5]
    assert found.confidence[3:].tolist() == pytest.approx([0.7, 0.9])
    assert found.ece == pytest.approx((1 * 0.3 + 4 * 0.4) / 5)
    assert found.mce == pytest.approx(0.4)
    # Σ (p - y)²: 0.02 twice, 1.62 twice, 0.18 once.
    assert found.brier == pytest.approx((2 * 0.02 + 2 * 1.62 + 0.18) / 5)
    assert found.nll == pytest.approx(-(2 * math.log(0.9) + 2 * math.log(0.1) + math.log(0.7)) / 5)
    assert found.overconfidence == pytest.approx(0.86 - 0.6)
    # Wilson's interval of 2 of 4.
    assert (found.low[4], found.high[4]) == pytest.approx((0.1500, 0.8500), abs=1e-4)
    assert np.isnan(found.low[:3]).all()


def test_the_worst_bin_says_how_many_it_holds_and_whether_that_is_chance() -> None:
    # One of one right at 0.7 is the farthest, and says nothing.
    found = measure_calibration(sure_of_the_first([0.9] * 40 + [0.7], [0] * 30 + [1] * 10 + [0]), num_bins=5)
    assert (found.worst_bin, found.counts[found.worst_bin], found.worst_may_be_chance) == (3, 1, True)
    assert found.mce == pytest.approx(0.3)
    found = measure_calibration(sure_of_the_first([0.95] * 40 + [0.7], [0] * 20 + [1] * 20 + [0]), num_bins=5)
    assert (found.worst_bin, found.worst_may_be_chance) == (4, False)
    assert "of 40)" in draw_calibration(found).axes[0].get_title(loc="left")


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_errors_are_those_of_torchmetrics_and_scikit_learn(bins: int) -> None:
    answers = answered()
    found = measure_calibration(answers, num_bins=bins)
    probabilities = answers.logits.softmax(1)
    for norm, value in (("l1", found.ece), ("max", found.mce)):
        theirs = multiclass_calibration_error(probabilities, answers.labels, 6, bins, norm).item()
        assert value == pytest.approx(theirs, abs=1e-6)
    exact = answers.logits.double().softmax(1).numpy()
    assert found.brier == pytest.approx(brier_score_loss(answers.labels, exact, scale_by_half=False))
    assert found.nll == pytest.approx(log_loss(answers.labels, exact, labels=range(6)))
    assert found.counts.sum() == found.num_samples == 2000


def test_full_certainty_belongs_to_the_last_bin() -> None:
    answers = SimpleNamespace(logits=torch.tensor([[200.0, 0], [3.5, 0]]), labels=torch.tensor([1, 0]))
    found = measure_calibration(answers)
    assert found.counts.tolist() == [0] * 14 + [2]
    assert found.ece == pytest.approx((1 + 1 / (1 + math.exp(-3.5))) / 2 - 0.5)


def test_the_diagram_draws_what_was_measured() -> None:
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ResourceWarning)  # what earlier tests left to the garbage collector
    found = measure_calibration(answered())
    figure = draw_calibration(found)
    bars = [patch.get_height() for patch in figure.axes[0].patches[: int((found.counts > 0).sum())]]
    assert bars == pytest.approx(found.recognised[found.counts > 0].tolist())
    assert f"ECE {found.ece:.4f}" in figure.axes[0].get_title(loc="left")
    assert [text.get_text() for text in figure.axes[1].texts] == [f"{n:,}" for n in found.counts if n]
    png(figure)


def test_the_legend_of_the_diagram_covers_no_bar() -> None:
    figure = draw_calibration(measure_calibration(answered()))
    figure.canvas.draw()
    (legend,) = figure.legends
    assert not any(legend.get_window_extent().overlaps(axes.get_tightbbox()) for axes in figure.axes)


def test_the_title_of_the_diagram_is_not_cut_off() -> None:
    found = measure_calibration(sure_of_the_first([0.6] * 14, [0] * 11 + [1] * 3))
    assert found.worst_may_be_chance
    figure = draw_calibration(found)
    figure.canvas.draw()
    title = next(text for text in figure.axes[0].findobj(Text) if "NLL" in text.get_text())
    assert title.get_window_extent().x1 <= figure.bbox.width


def test_answers_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(InspectionError, match="1 of 2 samples are not finite"):
        measure_calibration(
            SimpleNamespace(logits=torch.tensor([[0.0, torch.nan], [1, 0]]), labels=torch.tensor([0, 1]))
        )
    with pytest.raises(InspectionError, match="0 samples"):
        measure_calibration(SimpleNamespace(logits=torch.empty(0, 2), labels=torch.empty(0).long()))
