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
from cutaway.settings.labels import distinct


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
        share: Of all samples.
        precision: Share of the samples taken for this class that are of it; NaN where none was.
        recall: Share of this class's samples that were recognised; NaN where there are none.
        f1: Harmonic mean of the two, 0 where only one of them is a number; NaN where neither is.
    """

    label: str
    support: int
    share: float
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
        """The classes of the largest confusions, those that are taken for each other side by side.

        Where there are no more classes than `limit`, all of them in class order, and without mistakes the first.
        Otherwise pairs are taken from the
        largest confusion in both directions down until they name so many classes, which average linkage on the shares
        of each other's samples then puts in order.
        """
        count = len(self.classes)
        if count <= limit or np.trace(self.matrix) == self.num_samples:
            return list(range(min(count, limit)))
        wrong = self.matrix.copy()
        np.fill_diagonal(wrong, 0)
        rows, columns = np.nonzero(np.triu(wrong + wrong.T))
        chosen: dict[int, None] = {}
        for pair in np.argsort(-(wrong + wrong.T)[rows, columns], kind="stable").tolist():
            if len(chosen | dict.fromkeys((rows[pair], columns[pair]))) <= limit:
                chosen |= dict.fromkeys((int(rows[pair]), int(columns[pair])))
            if len(chosen) == limit:
                break
        found = sorted(chosen)
        shares = wrong[np.ix_(found, found)] / np.maximum(self.matrix.sum(1)[found], 1)[:, None]
        return [found[place] for place in _side_by_side(shares + shares.T)]


def class_scores(answers: Answers, classes: Sequence[str]) -> ClassScores:
    """Counts who was taken for whom.

    Args:
        answers: Logits [N, K] and labels [N].
        classes: K names; one that is there twice is numbered.

    Raises:
        InspectionError: The names don't fit the logits, or there is no sample.
    """
    logits, labels = answers.logits, answers.labels
    if logits.dim() != 2 or logits.shape[1] != len(classes) or len(labels) != len(logits) or len(labels) == 0:
        raise InspectionError(
            f"{len(classes)} classes and {len(labels)} labels do not fit logits {list(logits.shape)}.",
            hint="Evaluate the network on a split with its own classes.",
        )
    if not bool(logits.isfinite().all()):
        broken = int((~logits.isfinite().all(1)).sum())
        raise InspectionError(
            f"The network's scores of {broken:,} of {len(labels):,} samples are not finite, so they name no class.",
            hint="Have its weights diverged in training?",
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        wrong = int(labels.min() if int(labels.min()) < 0 else labels.max())
        raise InspectionError(f"A label is {wrong}, and there are {len(classes)} classes, from 0 on.")
    classes = distinct(classes)
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
                support / len(labels),
                right / taken if taken else float("nan"),
                right / support if support else float("nan"),
                2 * right / both if both else float("nan"),
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
    logits = answers.logits.cpu()
    # Of the logits, as the accuracy is: of logits that hardly differ the probabilities are the same.
    is_right = logits.argmax(1) == labels
    confidence = logits.softmax(1).amax(1)
    rounds: dict[int, int] = {}
    ranked = []
    for index in is_right.nonzero()[:, 0].tolist():
        label = int(labels[index])
        ranked.append((rounds.get(label, 0), label, index))
        rounds[label] = rounds.get(label, 0) + 1
    mistakes = torch.where(is_right, torch.full_like(confidence, -1), confidence).argsort(descending=True, stable=True)
    num_wrong = min(wrong, int((~is_right).sum()))
    return [index for _, _, index in sorted(ranked)[:right]], [int(index) for index in mistakes[:num_wrong]]


def _side_by_side(closeness: npt.NDArray[np.float64]) -> list[int]:
    """An order in which what is close stands close: float [M, M], symmetric -> M places."""
    if len(closeness) < 3:
        return list(range(len(closeness)))
    from scipy.cluster.hierarchy import leaves_list, linkage

    distances = closeness.max() - closeness
    order = leaves_list(linkage(distances[np.triu_indices(len(distances), 1)], "average", optimal_ordering=True))
    return [int(place) for place in order]
