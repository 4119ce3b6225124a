from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cutaway.inspect.canvas import legible, png, shortened
from cutaway.inspect.classwise import ClassScores, class_scores
from cutaway.inspect.confusion_figures import draw_confusion


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> None:
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ResourceWarning)  # what earlier tests left to the garbage collector


def scores_of(matrix: list[list[int]], names: list[str] | None = None) -> ClassScores:
    """What answers with this confusion matrix come to."""
    cells = np.array(matrix)
    truth, predicted = np.nonzero(cells)
    times = cells[truth, predicted]
    labels = torch.from_numpy(truth.repeat(times))
    logits = torch.nn.functional.one_hot(torch.from_numpy(predicted.repeat(times)), len(cells)).float()
    return class_scores(SimpleNamespace(logits=logits, labels=labels), names or [f"c{n}" for n in range(len(cells))])


def texts(figure) -> dict[tuple[float, float], str]:
    """Row and column -> what stands in the cell."""
    return {text.get_position()[::-1]: text.get_text() for text in figure.axes[0].texts}


def test_rows_are_the_truth_and_say_so() -> None:
    figure = draw_confusion(scores_of([[1, 1], [0, 1]], ["a", "b"]))
    axes = figure.axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("truth (rows)", "predicted (columns)")
    # One of the two samples of class 0 (row 0) was taken for class 1 (column 1).
    assert texts(figure) == {(0, 0): "1", (0, 1): "1", (1, 1): "1"}
    right, wrong = (image.get_array() for image in axes.images)
    assert right.filled(-1).tolist() == [[0.5, -1], [-1, 1]]
    assert wrong.filled(-1).tolist() == [[-1, 0.5], [0, -1]]
    assert "66.7% of 3 recognised" in axes.get_title(loc="left")


def test_shares_are_of_the_row_or_of_the_column() -> None:
    scores = scores_of([[3, 1], [1, 0]])
    assert texts(draw_confusion(scores, figures="truth")) == {(0, 0): "75", (0, 1): "25", (1, 0): "100"}
    assert texts(draw_confusion(scores, figures="prediction")) == {(0, 0): "75", (0, 1): "100", (1, 0): "25"}


def test_of_many_classes_those_of_the_largest_confusions_are_shown_side_by_side() -> None:
    matrix = np.diag([20] * 100)
    # 7 and 90 are taken for each other, and so are 12 and 50; 30 is twice taken for a class that is not shown.
    matrix[7, 90], matrix[90, 7], matrix[50, 12], matrix[12, 50], matrix[30, 31] = 6, 3, 5, 5, 1
    scores = scores_of(matrix.tolist())
    figure = draw_confusion(scores, limit=4)
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    columns = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert columns == [*rows, "any other"]
    assert {frozenset(rows[:2]), frozenset(rows[2:])} == {frozenset({"c7", "c90"}), frozenset({"c12", "c50"})}
    assert "the 4 of 100 classes" in figure.axes[0].get_title(loc="left")


def test_what_was_taken_for_a_class_that_is_not_shown_is_counted() -> None:
    matrix = np.diag([10] * 5)
    matrix[0, 1], matrix[0, 4], matrix[0, 3] = 4, 1, 2
    figure = draw_confusion(scores_of(matrix.tolist()), limit=2)
    assert texts(figure) == {(0, 0): "10", (0, 1): "4", (0, 2): "3", (1, 1): "10"}
    shares = figure.axes[0].images[0].get_array().filled(0) + figure.axes[0].images[1].get_array().filled(0)
    assert shares.sum(1).tolist() == pytest.approx([1, 1])


def test_without_mistakes_the_first_classes_are_shown() -> None:
    scores = scores_of(np.eye(9, dtype=int).tolist())
    assert scores.most_confused(3) == [0, 1, 2]
    png(draw_confusion(scores, limit=3))


def test_names_in_any_script_are_drawn_or_numbered() -> None:
    names = ["$x^$", "кот", "\U0001f980\u9f98"]
    figure = draw_confusion(scores_of(np.eye(3, dtype=int).tolist(), names))
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == [*names[:2], legible(names[2], "class 2")]
    assert ("Numbers stand for names" in (figure.get_supxlabel() or "")) == (labels[2] != names[2])
    png(figure)


def test_long_names_keep_both_ends() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("black-and-white colobus, guereza", 12) == "black-a…reza"
    assert len(shortened("x" * 99, 26)) == 26


def test_the_footnote_fits_on_a_small_figure() -> None:
    names = ["a", "b", "c", "\U00013080\U0010ffff"]
    figure = draw_confusion(scores_of(np.eye(4, dtype=int).tolist(), names))
    figure.canvas.draw()
    drawn = next(text for text in figure.texts if "Numbers" in text.get_text())
    extent = drawn.get_window_extent()
    assert extent.x0 >= 0
    assert extent.x1 <= figure.bbox.width
