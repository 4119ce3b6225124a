from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from cutaway.errors import InspectionError
from cutaway.inspect.comparison import compare_answers, in_order_of


def answered(labels: list[int], predictions: list[int], sureness: list[float] | None = None) -> SimpleNamespace:
    sure = torch.tensor(sureness or [1.0] * len(labels)).float()
    logits = torch.nn.functional.one_hot(torch.tensor(predictions), 3).float() * sure[:, None]
    return SimpleNamespace(logits=logits, labels=torch.tensor(labels))


def test_flips_by_hand() -> None:
    labels = [0, 0, 1, 1, 2, 2, 0]
    first = answered(labels, [0, 0, 1, 0, 0, 1, 1])
    second = answered(labels, [0, 1, 2, 1, 1, 1, 0], [1, 2, 3, 1, 1, 1, 5])
    found = compare_answers(first, second)
    assert (found.num_samples, found.num_both_right, found.num_both_wrong, found.num_other_mistakes) == (7, 1, 2, 1)
    # The most confident of the second's answers come first.
    assert found.broken == (2, 1)
    assert found.mended == (6, 3)
    assert found.first_accuracy == found.second_accuracy == 3 / 7
    assert (found.difference, found.p_value, found.is_chance) == (0, 1, True)


def test_mcnemar_s_test_by_hand() -> None:
    # Nine of ten flips are for the better: 2 (1 + 10) / 2^10.
    labels = [0] * 20
    found = compare_answers(answered(labels, [0] + [1] * 9 + [0] * 10), answered(labels, [1] + [0] * 9 + [0] * 10))
    assert found.p_value == pytest.approx(22 / 1024)
    assert not found.is_chance
    assert found.difference == pytest.approx(8 / 20)
    # Counts half a sample larger each: 9.5 and 1.5 of 22.
    d = 8 / 22
    reach = 1.959964 * math.sqrt((11 / 22 - d**2) / 22)
    assert (found.low, found.high) == pytest.approx((d - reach, d + reach), abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60))
def test_the_parts_add_up_and_the_other_way_round_is_the_mirror_image(samples: list[tuple[int, int, int]]) -> None:
    labels, first, second = map(list, zip(*samples, strict=True))
    there = compare_answers(answered(labels, first), answered(labels, second))
    back = compare_answers(answered(labels, second), answered(labels, first))
    assert there.num_both_right + there.num_both_wrong + len(there.broken) + len(there.mended) == len(samples)
    assert (set(there.broken), there.difference) == (set(back.mended), -back.difference)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.low - 1e-9 <= there.difference <= there.high + 1e-9 or len(samples) < 5
    flips = len(there.broken) + len(there.mended)
    assert there.p_value == pytest.approx(binomtest(len(there.broken), flips).pvalue if flips else 1)


def test_classes_in_another_order_are_put_in_order() -> None:
    logits = torch.tensor([[1.0, 2, 3]])
    assert in_order_of(logits, ["a", "b", "c"], ["c", "a", "b"]).tolist() == [[3, 1, 2]]
    with pytest.raises(InspectionError, match="only one knows d, c"):
        in_order_of(logits, ["a", "b", "c"], ["a", "b", "d"])


def test_two_classes_of_one_name_keep_their_own_columns() -> None:
    logits = torch.tensor([[1.0, 2, 3]])
    assert in_order_of(logits, ["crane", "heron", "crane"], ["crane", "heron", "crane"]).tolist() == [[1, 2, 3]]
    assert in_order_of(logits, ["crane", "heron", "crane"], ["heron", "crane", "crane"]).tolist() == [[2, 1, 3]]
    with pytest.raises(InspectionError, match="only one knows crane, heron"):
        in_order_of(logits, ["crane", "heron", "crane"], ["crane", "heron", "heron"])


def test_answers_over_other_samples_are_an_error() -> None:
    with pytest.raises(InspectionError, match=r"\[2, 3\] and \[1, 3\]"):
        compare_answers(answered([0, 1], [0, 1]), answered([0], [0]))
    with pytest.raises(InspectionError, match="same samples"):
        compare_answers(answered([0, 1], [0, 1]), answered([1, 0], [0, 1]))
