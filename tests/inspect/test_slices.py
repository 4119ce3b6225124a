from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import fisher_exact

from cutaway.errors import InspectionError
from cutaway.inspect.canvas import png
from cutaway.inspect.slice_figures import draw_slices
from cutaway.inspect.slices import slice_scores


def answered(pairs: list[tuple[int, int]]) -> SimpleNamespace:
    """Answers with these (truth, prediction)."""
    truth, predicted = torch.tensor(pairs).T
    return SimpleNamespace(logits=torch.nn.functional.one_hot(predicted, 3).float(), labels=truth)


def test_slices_by_hand() -> None:
    # Night: class 0 once right of two, class 1 right. Day: class 0 three times right, class 1 wrong once.
    answers = answered([(0, 0), (0, 1), (1, 1), (0, 0), (0, 0), (0, 0), (1, 0)])
    found = slice_scores(answers, ["night", "night", " night", "day", "day", "day ", "day"], column="hour")
    assert found.accuracy == pytest.approx(5 / 7)
    day, night = sorted(found.slices, key=lambda part: part.value)
    assert (night.num_samples, night.num_right, day.num_samples, day.num_right) == (3, 2, 4, 3)
    assert (night.rest, day.rest) == (day.accuracy, night.accuracy) == pytest.approx((3 / 4, 2 / 3))
    # The recall of class 0 is 4/5 and that of class 1 is 1/2.
    assert night.expected == pytest.approx((2 * 0.8 + 0.5) / 3)
    assert day.expected == pytest.approx((3 * 0.8 + 0.5) / 4)
    # Wilson's interval of 2 of 3.
    assert (night.low, night.high) == pytest.approx((0.2077, 0.9385), abs=1e-4)
    assert night.against_the_rest == ""


def test_a_slice_that_differs_by_more_than_chance_is_told() -> None:
    answers = answered([(0, 0)] * 90 + [(0, 1)] * 10 + [(0, 0)] * 20 + [(0, 1)] * 20 + [(0, 0)] * 9 + [(0, 1)])
    found = slice_scores(answers, ["a"] * 100 + ["b"] * 40 + ["c"] * 10)
    assert [part.value for part in found.slices] == ["b", "a", "c"]
    assert [part.against_the_rest for part in found.slices] == ["lower", "higher", ""]
    raw = [fisher_exact(table).pvalue for table in ([[20, 20], [99, 11]], [[90, 10], [29, 21]], [[9, 1], [110, 30]])]
    # Holm: the smallest three times, the next twice, the largest once.
    assert [part.p_value for part in found.slices] == pytest.approx([3 * raw[0], 2 * raw[1], raw[2]])


def test_many_numbers_are_put_into_ranges() -> None:
    found = slice_scores(answered([(0, 0)] * 100), [str(number) for number in range(100)], column="age")
    assert found.in_ranges
    assert [part.value for part in found.slices] == ["0 to 24", "over 24 to 49", "over 49 to 74", "over 74 to 99"]
    assert [part.num_samples for part in found.slices] == [25, 25, 25, 25]
    few = slice_scores(answered([(0, 0)] * 6), ["1", "2", "10", "1", "2", "10"])
    assert not few.in_ranges
    negative = slice_scores(answered([(0, 0)] * 40), [str(number / 2 - 10) for number in range(40)])
    assert negative.slices[0].value == "-10 to -5.5"
    assert sum(part.num_samples for part in negative.slices) == 40


def test_an_empty_cell_is_a_value_and_keeps_numbers_apart() -> None:
    found = slice_scores(answered([(0, 0)] * 20), ["", *(str(number) for number in range(19))])
    assert not found.in_ranges
    assert "(empty)" in {part.value for part in found.slices}


def test_values_that_do_not_fit_or_do_not_differ_are_an_error() -> None:
    with pytest.raises(InspectionError, match="1 values of 'hour' do not fit 2 samples"):
        slice_scores(answered([(0, 0)] * 2), ["a"], column="hour")
    with pytest.raises(InspectionError, match="the same 'hour', namely 'day'"):
        slice_scores(answered([(0, 0)] * 2), ["day", "day"], column="hour")
    with pytest.raises(InspectionError, match="'name' has 1,001 different values"):
        slice_scores(answered([(0, 0)] * 1001), [f"{number}.png" for number in range(1001)], column="name")


def test_the_figure_has_a_line_a_slice_and_names_in_any_script() -> None:
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ResourceWarning)  # what earlier tests left to the garbage collector
    found = slice_scores(
        answered([(0, 0), (0, 1), (1, 1), (0, 0)]), ["$x^$", "\U0001f980\u9f98", "a", "a"], column="_$"
    )
    axes = draw_slices(found).axes[0]
    assert len(axes.get_yticklabels()) == 3
    assert axes.get_yticklabels()[0].get_text().endswith("(1)")
    png(draw_slices(found, limit=2))


@pytest.mark.parametrize(
    ("numbers", "first"),
    [
        ([1_700_000_000 + i for i in range(400)], "1700000000 to 1700000099"),
        ([20240101.0 + i for i in range(40)], "20240101 to 20240110"),
        ([0.5 + i * 1e-9 for i in range(40)], "0.5 to 0.50000001"),
    ],
)
def test_ranges_of_close_numbers_stay_apart(numbers: list[float], first: str) -> None:
    answers = SimpleNamespace(logits=torch.eye(2)[[0] * len(numbers)], labels=torch.arange(len(numbers)) % 2)
    found = slice_scores(answers, [repr(number) for number in numbers])
    assert [part.num_samples for part in found.slices] == [len(numbers) // 4] * 4
    assert found.slices[0].value == first
