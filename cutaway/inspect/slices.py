"""How well a network does on parts of the data: pictures of one folder, camera, hour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from cutaway.datasets import Split
from cutaway.errors import InspectionError
from cutaway.inspect.classwise import Answers
from cutaway.inspect.intervals import LEVEL, wilson

MOST_NUMBERS = 12
NUM_RANGES = 4
MOST_SLICES = 1000


@dataclass(frozen=True)
class Slice:
    """The samples that have one value in a column.

    Attributes:
        value: The value, or a range of numbers.
        num_samples: That have it.
        num_right: Of these, those that were recognised.
        accuracy: The share.
        low: Lower end of its Wilson interval of 95 %.
        high: Upper end.
        expected: The accuracy that its mix of classes lets expect: the mean over its samples of the recall that their
            class has in the whole. Far from `accuracy`, the slice is harder or easier than its classes are.
        p_value: Of Fisher's exact test against all other samples, by Holm's method for that many slices; small where
            the difference is hardly chance.
        rest: The accuracy of all other samples.
    """

    value: str
    num_samples: int
    num_right: int
    accuracy: float
    low: float
    high: float
    expected: float
    p_value: float
    rest: float

    @property
    def against_the_rest(self) -> Literal["lower", "higher", ""]:
        """Whether its accuracy differs from that of all other samples by more than chance."""
        if self.p_value >= 1 - LEVEL:
            return ""
        return "lower" if self.accuracy < self.rest else "higher"


@dataclass(frozen=True)
class Slices:
    """A split by the values of a column.

    Attributes:
        column: Its name.
        slices: The least accurate first; ranges of numbers from the lowest to the highest.
        accuracy: Of the whole.
        num_samples: In the whole.
        in_ranges: Whether the values are numbers so many that they were put into ranges.
    """

    column: str
    slices: tuple[Slice, ...]
    accuracy: float
    num_samples: int
    in_ranges: bool


def slice_scores(answers: Answers, values: Sequence[str], *, column: str = "value") -> Slices:
    """Scores each part of a split by itself.

    Where more than 12 values are all numbers, they are put into four ranges of about as many samples each.

    Args:
        answers: Logits [N, K] and labels [N].
        values: One for each sample.
        column: What they are values of.

    Raises:
        InspectionError: There are fewer or more values than samples, they are all the same, or more than 1,000 words.
    """
    labels = answers.labels.cpu().numpy()
    if len(values) != len(labels) or len(labels) == 0:
        raise InspectionError(f"{len(values)} values of {column!r} do not fit {len(labels)} samples.")
    names, in_ranges = _grouped([value.strip() or "(empty)" for value in values])
    order = sorted(set(names), key=_upper_end if in_ranges else str)
    if len(order) < 2:
        raise InspectionError(
            f"All {len(labels)} pictures have the same {column!r}, namely {order[0]!r}.",
            hint="Slice by a column whose values differ.",
        )
    if len(order) > MOST_SLICES:
        raise InspectionError(
            f"{column!r} has {len(order):,} different values among {len(labels):,} pictures.",
            hint=f"Slice by a column of numbers, or of at most {MOST_SLICES:,} values.",
        )
    right = (answers.logits.argmax(1).cpu().numpy() == labels).astype(np.int64)
    place = {name: index for index, name in enumerate(order)}
    of = np.array([place[name] for name in names])
    counts = np.bincount(of, minlength=len(order))
    hits = np.bincount(of, right, minlength=len(order)).astype(np.int64)
    support = np.bincount(labels)
    recalls = np.bincount(labels, right) / np.maximum(support, 1)
    expected = np.bincount(of, recalls[labels], minlength=len(order)) / counts
    low, high = wilson(hits, counts)
    p_values = _against_the_rest(hits, counts)
    total, total_right = len(labels), int(right.sum())
    found = [
        Slice(
            value=order[index],
            num_samples=int(counts[index]),
            num_right=int(hits[index]),
            accuracy=float(hits[index] / counts[index]),
            low=float(low[index]),
            high=float(high[index]),
            expected=float(expected[index]),
            p_value=float(p_values[index]),
            rest=float((total_right - hits[index]) / (total - counts[index])),
        )
        for index in range(len(order))
    ]
    if not in_ranges:
        found.sort(key=lambda part: part.accuracy)
    return Slices(column, tuple(found), total_right / total, total, in_ranges)


def column_of(split: Split, asked: str) -> Sequence[str]:
    """The values of a column, for `slice_scores`.

    Raises:
        InspectionError: The split has no such column.
    """
    name = asked.strip().casefold()
    if name not in split.columns:
        known = ", ".join(split.columns)
        raise InspectionError(
            f"The pictures have no column {asked!r} to slice by.",
            hint=f"Columns: {known}." if known else "Only pictures of a folder or a CSV list have columns.",
        )
    return split.columns[name]


def _grouped(values: list[str]) -> tuple[list[str], bool]:
    """The values, or the ranges that they lie in where they are many numbers."""
    distinct = set(values)
    numbers = {value: _number(value) for value in distinct}
    if len(distinct) <= MOST_NUMBERS or not all(math.isfinite(number) for number in numbers.values()):
        return values, False
    known = np.array([numbers[value] for value in values])
    ends = np.unique(np.quantile(known, np.linspace(0, 1, NUM_RANGES + 1), method="inverted_cdf"))
    if len(ends) < 3:
        return values, False
    # A range holds its upper end, and the first its lower one too.
    ranges = np.maximum(1, np.searchsorted(ends, known, side="left"))
    first, *later = _written(ends.tolist())
    texts = [f"{first} to {later[0]}", *(f"over {a} to {b}" for a, b in pairwise(later))]
    return [texts[index - 1] for index in ranges.tolist()], True


def _written(ends: list[float]) -> list[str]:
    """The ends in as few digits, six at least, as tell them apart; whole numbers whole."""
    if all(end == int(end) and abs(end) < 1e15 for end in ends):
        return [str(int(end)) for end in ends]
    return next(
        texts for digits in range(6, 18) if len(set(texts := [f"{end:.{digits}g}" for end in ends])) == len(ends)
    )


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


def _upper_end(text: str) -> float:
    return float(text.rpartition(" to ")[2])


def _against_the_rest(hits: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Fisher's exact test of each slice against all others together, by Holm's step-down method."""
    from scipy.stats import fisher_exact

    misses = counts - hits
    raw = np.array(
        [
            fisher_exact([[hit, miss], [hits.sum() - hit, misses.sum() - miss]]).pvalue
            for hit, miss in zip(hits.tolist(), misses.tolist(), strict=True)
        ]
    )
    order = np.argsort(raw, kind="stable")
    stepped = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    adjusted: npt.NDArray[np.float64] = np.empty(len(raw))
    adjusted[order] = np.minimum(1, stepped)
    return adjusted
