"""Figures and verdicts worked out by hand."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.errors import ExportError
from cutaway.serve.export.forms.judging import FormAnswers, FormFigures, Limits, measure, objection

GOOD = FormFigures(
    pictures=1000,
    accuracy_before=0.9,
    accuracy=0.895,
    top1_agreement=0.99,
    probability_difference=0.1,
    heatmap_correlation=0.99,
)


def test_figures_by_hand():
    before = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]], np.float32)
    after = np.array([[0.7, 0.3], [0.45, 0.55], [0.3, 0.7], [0.6, 0.4]], np.float32)
    # Correlations 1, -1, none (a flat map), and 1.
    maps = np.array([[[0, 1]], [[0, 1]], [[1, 1]], [[2, 4]]], np.float32)
    others = np.array([[[0, 2]], [[1, 0]], [[0, 1]], [[1, 2]]], np.float32)
    labels = np.array([0, 0, 1, 0])
    figures = measure(FormAnswers(before, maps), FormAnswers(after, others), labels)
    # Right before are pictures 0, 1 and 2; in the form 0, 2 and 3. The top class is the same in 0 and 2.
    assert (figures.accuracy_before, figures.accuracy, figures.top1_agreement) == (0.75, 0.75, 0.5)
    assert figures.probability_difference == pytest.approx(0.35)
    assert figures.heatmap_correlation == pytest.approx(1 / 3)
    assert figures.feature_correlation is None
    assert measure(FormAnswers(before, None), FormAnswers(after, None), labels).heatmap_correlation is None
    # A layer that correlates by 1 and one by -1, on the first two pictures.
    layers, turned = {"a": maps[:2], "b": maps[:2]}, {"a": 2 * maps[:2], "b": -maps[:2]}
    figures = measure(FormAnswers(before, None, layers), FormAnswers(after, None, turned), labels)
    assert figures.feature_correlation == pytest.approx(-1)


@pytest.mark.parametrize("lost", [0.0, np.nan, np.inf])
def test_a_map_that_is_lost_in_the_form_alone_counts_as_none_that_agrees(lost):
    sure = np.array([[1.0, 0.0]] * 4, np.float32)
    maps = np.array([[[0, 1]], [[0, 1]], [[0, 1]], [[1, 1]]], np.float32)
    others = np.array([[[0, 2]], [[lost, lost]], [[0, 2]], [[1, 0]]], np.float32)
    figures = measure(FormAnswers(sure, maps), FormAnswers(sure, others), np.zeros(4, np.int64))
    assert figures.heatmap_correlation == pytest.approx(2 / 3)
    assert "its heat-maps correlate" in objection(figures, Limits())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"accuracy": 0.89}, ""),
        ({"accuracy": 0.95}, ""),
        ({"heatmap_correlation": None}, ""),
        ({"accuracy": 0.889}, "accuracy drops from 90.00% to 88.90% on 1000 pictures, allowed are 1 points"),
        ({"top1_agreement": 0.85}, "the top class changes in 15.0% of 1000 pictures, allowed are 10%"),
        ({"feature_correlation": float("nan")}, "feature maps of a layer correlate with those of fp32 by nan"),
        ({"heatmap_correlation": 0.5}, "heat-maps correlate with those of fp32 by 0.500"),
    ],
)
def test_what_speaks_against_a_form(change, said):
    against = objection(dataclasses.replace(GOOD, **change), Limits())
    assert said in against if said else against == ""


@given(before=st.integers(0, 1000), after=st.integers(0, 1000), points=st.integers(0, 1000))
def test_a_drop_is_refused_exactly_beyond_the_limit(before, after, points):
    figures = dataclasses.replace(GOOD, accuracy_before=before / 1000, accuracy=after / 1000)
    assert bool(objection(figures, Limits(accuracy_drop=points / 1000))) == (before - after > points)


@pytest.mark.parametrize("drop", [-0.1, 1.5, float("nan")])
def test_a_limit_that_is_no_share_is_refused(drop):
    with pytest.raises(ExportError, match="it is a share from 0 to 1"):
        Limits(accuracy_drop=drop)
