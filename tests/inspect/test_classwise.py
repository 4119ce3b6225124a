from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor

from cutaway.errors import InspectionError
from cutaway.inspect.classwise import class_scores, telling_samples


@dataclass(frozen=True)
class Answered:
    logits: Tensor
    labels: Tensor


def answered(count: int = 300, classes: int = 5) -> Answered:
    torch.manual_seed(0)
    labels = torch.randint(classes, (count,))
    return Answered(torch.randn(count, classes) + 2 * torch.nn.functional.one_hot(labels, classes), labels)


def test_figures_agree_with_scikit_learn() -> None:
    answers = answered()
    found = class_scores(answers, list("abcde"))
    truth, predicted = answers.labels.numpy(), answers.logits.argmax(1).numpy()
    assert np.array_equal(found.matrix, metrics.confusion_matrix(truth, predicted))
    assert found.accuracy == pytest.approx(metrics.accuracy_score(truth, predicted))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(truth, predicted)
    for index, score in enumerate(found.scores):
        assert (score.precision, score.recall, score.f1) == pytest.approx((precision[index], recall[index], f1[index]))
        assert score.support == support[index]


def test_classes_without_samples_or_predictions_have_no_figures() -> None:
    answers = Answered(torch.tensor([[9.0, 0, 0], [9.0, 0, 0]]), torch.tensor([0, 1]))
    a, b, c = class_scores(answers, "abc").scores
    assert (a.recall, a.precision, a.f1) == (1, 0.5, pytest.approx(2 / 3))
    assert (b.recall, b.f1) == (0, 0)
    assert math.isnan(b.precision)
    assert math.isnan(c.recall)
    assert math.isnan(c.f1)
    assert (a.share, b.share, c.share) == (0.5, 0.5, 0)


def test_top_confusions_are_sorted_and_leave_out_what_was_right() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    predictions = torch.tensor([1, 1, 0, 2, 1, 2])
    found = class_scores(Answered(torch.nn.functional.one_hot(predictions, 3).float(), labels), ["a", "b", "c"])
    pairs = [(pair.truth, pair.prediction, pair.times, pair.support) for pair in found.top_confusions(9)]
    assert pairs == [("a", "b", 2, 3), ("b", "c", 1, 2)]
    assert found.most_confused(2) == [0, 1]
    assert found.num_samples == 6


def test_samples_are_one_of_each_class_and_the_most_confident_mistakes() -> None:
    logits = torch.tensor([[3.0, 0], [3, 0], [0, 3], [1, 0], [5, 0], [2, 0]])
    labels = torch.tensor([0, 0, 1, 1, 1, 1])
    right, wrong = telling_samples(Answered(logits, labels), right=2, wrong=2)
    assert right == [0, 2]
    assert wrong == [4, 5]
    right, wrong = telling_samples(Answered(logits, labels), right=9, wrong=9)
    assert right == [0, 2, 1]
    assert wrong == [4, 5, 3]


def test_a_sample_that_is_right_by_a_hair_is_no_mistake() -> None:
    # In float32 both probabilities are a half.
    answers = SimpleNamespace(logits=torch.tensor([[1e-9, 2e-9], [2e-9, 1e-9]]), labels=torch.tensor([1, 1]))
    assert class_scores(answers, ["a", "b"]).accuracy == 0.5
    assert telling_samples(answers, right=5, wrong=5) == ([0], [1])


def test_names_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(InspectionError, match=r"4 classes .* logits \[300, 5\]"):
        class_scores(answered(), "abcd")
    with pytest.raises(InspectionError, match="0 labels"):
        class_scores(Answered(torch.empty(0, 2), torch.empty(0).long()), "ab")


def test_answers_that_are_no_numbers_name_no_class() -> None:
    logits = torch.tensor([[1.0, 0.0], [float("nan"), 0.0]])
    with pytest.raises(InspectionError, match="1 of 2 samples are not finite"):
        class_scores(SimpleNamespace(logits=logits, labels=torch.tensor([0, 0])), ("a", "b"))
    with pytest.raises(InspectionError, match="label is 2"):
        class_scores(SimpleNamespace(logits=logits.nan_to_num(), labels=torch.tensor([0, 2])), ("a", "b"))
    with pytest.raises(InspectionError, match="label is -1"):
        class_scores(SimpleNamespace(logits=logits.nan_to_num(), labels=torch.tensor([-1, 1])), ("a", "b"))
