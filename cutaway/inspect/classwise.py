"""How well a network tells the classes apart: confusion, per-class figures, telling samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cutaway.errors import InspectionError


class Answers(Protocol):
    """What a network answered over a split, such as an `Evaluation`: logits [N, K] and labels int64 [N]."""

    @property
    def logits(self) -> Tensor:
        """Float [N, K]."""

    @property
    def labels(self) -> Tensor:
        """Int64 [N]."""


@dataclass(frozen=True)
class ClassScore:
    """One class.

    Attributes:
        label: Its name.
        support: Samples of this class.
        precision: Share of the samples taken for this class that are of it; NaN where none was.
        recall: Share of this class's samples that were recognised; NaN where there are none.
        f1: Harmonic mean of the two; NaN where one of them is.
    """

    label: str
    support: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Confusion:
    """Two classes taken for each other: `times` of `support` samples of `truth` were taken for `prediction`."""

    truth: str
    prediction: str
    times: int
    support: int


@dataclass(frozen=True)
class ClassScores:
    """A network's answers over a split, by class.

    Attributes:
        classes: The classes' names.
        accuracy: Share of samples whose top class is the truth.
        matrix: int64 [K, K], rows are the truth, columns the prediction.
        scores: One per class.
    """

    classes: tuple[str, ...]
    accuracy: float
    matrix: npt.NDArray[np.int64]
    scores: tuple[ClassScore, ...]

    @property
    def num_samples(self) -> int:
        """Samples in the split."""
        return int(self.matrix.sum())

    def top_confusions(self, limit: int) -> tuple[Confusion, ...]:
        """The most frequent mistakes."""
        wrong = self.matrix.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
        pairs = [divmod(int(flat), len(self.classes)) for flat in order if wrong.flat[flat] > 0]
        return tuple(
            Confusion(self.classes[row], self.classes[column], int(wrong[row, column]), int(self.matrix[row].sum()))
            for row, column in pairs
        )

    def most_confused(self, limit: int) -> list[int]:
        """The classes with the most mistakes in their row and column, in class order; all where there are no more."""
        wrong = self.matrix.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:limit]
        return sorted(int(index) for index in order)


def class_scores(answers: Answers, classes: Sequence[str]) -> ClassScores:
    """Counts who was taken for whom.

    Args:
        answers: Logits [N, K] and labels [N].
        classes: K names.

    Raises:
        InspectionError: The names don't fit the logits, or there is no sample.
    """
    logits, labels = answers.logits, answers.labels
    if logits.dim() != 2 or logits.shape[1] != len(classes) or len(labels) != len(logits) or len(labels) == 0:
        raise InspectionError(
            f"{len(classes)} classes and {len(labels)} labels do not fit logits {list(logits.shape)}.",
            hint="Evaluate the network on a split with its own classes.",
        )
    count = len(classes)
    pairs = labels.cpu() * count + logits.argmax(1).cpu()
    matrix: npt.NDArray[np.int64] = pairs.bincount(minlength=count * count).reshape(count, count).numpy()
    scores = []
    for index, label in enumerate(classes):
        right, taken, support = int(matrix[index, index]), int(matrix[:, index].sum()), int(matrix[index].sum())
        both = taken + support
        scores.append(
            ClassScore(
                label,
                support,
                right / taken if taken else float("nan"),
                right / support if support else float("nan"),
                2 * right / both if taken and support else float("nan"),
            )
        )
    return ClassScores(tuple(classes), int(np.trace(matrix)) / len(labels), matrix, tuple(scores))


def telling_samples(answers: Answers, *, right: int, wrong: int) -> tuple[list[int], list[int]]:
    """Samples worth looking at.

    Args:
        answers: Logits [N, K] and labels [N].
        right: How many recognised samples.
        wrong: How many mistakes.

    Returns:
        Indices of recognised samples, each the first of another class as far as there are classes; and of the most
        confident mistakes.
    """
    labels = answers.labels.cpu()
    confidence, predictions = answers.logits.cpu().softmax(1).max(1)
    is_right = predictions == labels
    rounds: dict[int, int] = {}
    ranked = []
    for index in is_right.nonzero()[:, 0].tolist():
        label = int(labels[index])
        ranked.append((rounds.get(label, 0), label, index))
        rounds[label] = rounds.get(label, 0) + 1
    mistakes = torch.where(is_right, torch.full_like(confidence, -1), confidence).argsort(descending=True, stable=True)
    num_wrong = min(wrong, int((~is_right).sum()))
    return [index for _, _, index in sorted(ranked)[:right]], [int(index) for index in mistakes[:num_wrong]]
