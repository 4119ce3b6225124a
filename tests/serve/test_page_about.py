from __future__ import annotations

import re
from pathlib import Path

import pytest

from cutaway.serve.classifier import Classifier
from cutaway.serve.page.about import about, runs_on
from cutaway.serve.page.confusion import confusion

MATRIX = [[8, 2, 0, 0], [0, 10, 0, 0], [3, 0, 7, 0], [0, 0, 0, 0]]


def cells(html: str) -> list[str]:
    return re.findall(r"<td[^>]*>([^<]*)</td>", html)


def test_confusion_matrix_has_a_row_for_each_true_class() -> None:
    html = confusion(MATRIX, ("red", "green", "blue", "grey"))

    rows = re.findall(r'<tr><th scope="row" title="\w+"><bdi>(\w+)</bdi></th>(.*?)</tr>', html)
    assert [name for name, _ in rows] == ["red", "green", "blue", "grey"]
    assert cells(rows[2][1]) == ["3", "", "7", ""]
    assert re.findall(r"--cw-share: ([\d.]+)", rows[0][1]) == ["0.800", "0.200", "0.000", "0.000"]
    assert "25 of 30 pictures right (83.3%)" in html


def test_confusions_come_most_frequent_first_in_words() -> None:
    html = confusion(MATRIX, ("red", "green", "blue", "grey"))

    assert re.findall(r"<li>(.*?)</li>", html) == [
        "<bdi>blue</bdi> taken for <bdi>red</bdi>: 3 of 10",
        "<bdi>red</bdi> taken for <bdi>green</bdi>: 2 of 10",
    ]


def test_matrix_too_large_to_read_is_told_in_words_alone() -> None:
    matrix = [[5 if row == column else 0 for column in range(21)] for row in range(21)]
    matrix[0][1] = 4

    html = confusion(matrix, [f"c{index}" for index in range(21)])

    assert "<table" not in html
    assert "<bdi>c0</bdi> taken for <bdi>c1</bdi>: 4 of 9" in html


def test_matrix_of_no_pictures_and_of_no_mistakes() -> None:
    assert "no pictures" in confusion([[0, 0], [0, 0]], ("a", "b"))
    assert "Most often" not in confusion([[1, 0], [0, 1]], ("a", "b"))


def test_names_in_the_matrix_are_escaped() -> None:
    assert "<b>" not in confusion([[1, 1], [1, 1]], ("<b>", "b"))


def test_all_that_the_file_says_is_told(make_model) -> None:
    path = make_model(confusion_matrix=MATRIX, temperature=1.25, metrics={"valid_accuracy": 0.8333})

    html = about(Classifier(path, provider="cpu"))

    for said in (
        "mean-color",
        "<bdi>red</bdi>, <bdi>green</bdi>, <bdi>blue</bdi>, <bdi>grey</bdi>",
        "resized to 8 × 8, colour, bilinear",
        "minus 0, 0, 0 and divided by 1, 1, 1",
        "at <code>pixels</code>",
        "<dt>Verdict</dt><dd>passed</dd>",
        "valid accuracy</dt><dd>0.8333",
        "25 of 30 pictures right",
        "temperature 1.25",
        "16 pictures of the test split",
        "probabilities 1e-05",
        "ab" * 32,
        "CPUExecutionProvider",
        "cutaway 0.1.0",
        "model.onnx",
    ):
        assert said in html.replace("\N{NO-BREAK SPACE}", " "), said


def test_very_many_classes_are_folded_away(make_model) -> None:
    import numpy as np

    classes = tuple(f"class {index}" for index in range(40))
    path = make_model(weights=np.zeros((40, 3), np.float32), classes=classes)

    assert "<details><summary>40 classes</summary>" in about(Classifier(path, provider="cpu"))


@pytest.mark.parametrize(("requested", "said"), [("cpu", "the CPU"), ("auto", "could not load it")])
def test_device_that_was_meant_is_told_where_another_was_loaded(model_path: Path, requested: str, said: str) -> None:
    classifier = Classifier(model_path, provider="cpu")
    if requested == "auto":
        classifier.requested = ("CUDAExecutionProvider", "CPUExecutionProvider")

    assert said in runs_on(classifier)
