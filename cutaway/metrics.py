"""What an evaluation comes to in numbers: right answers, each class's figures, calibration and ranking."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cutaway.evaluation import Evaluation
from cutaway.settings.watching import MODES

# Every scalar of a validation, and whether more of it is better.
SCALARS: Mapping[str, Literal["max", "min"]] = {name: mode for name, mode in MODES.items() if name.startswith("valid_")}
TOP = 5
NUM_BINS = 15
LARGEST_CONFUSION = 1000


@dataclass(frozen=True, eq=False)
class Metrics:
    """An evaluation in numbers. Where the network gave a probability that is no number, every scalar is NaN.

    Averages over classes follow scikit-learn: `macro` weighs alike all classes that occur as truth or as prediction,
    `weighted` by their samples, and a class's figure that is undefined counts as 0. (Recall weighted by samples is the
    accuracy.)

    Attributes:
        loss: Mean cross-entropy in nats.
        accuracy: Share of samples whose top class is the label.
        top5_accuracy: Share of samples with the label among the five top classes; None of five classes or fewer.
        ece: Expected calibration error of the top class's probability in 15 bins (Naeini et al. 2015).
        auroc: Area under the ROC curve of each class against the rest, averaged over the classes that have samples.
        support: int64 [K], samples of each class.
        precision: float64 [K], share of the samples taken for the class that are of it; NaN where none was.
        recall: float64 [K], share of the class's samples that were recognised; NaN where there are none.
        f1: float64 [K], harmonic mean of the two; NaN where the class is neither truth nor prediction of any sample.
        class_auroc: float64 [K], each class against the rest; NaN where all samples or none are of it.
        confusion: int64 [K, K], rows are the truth, columns the prediction; None of more than 1,000 classes.
    """

    loss: float
    accuracy: float
    top5_accuracy: float | None
    macro_precision: float
    macro_recall: float
    macro_f1: float
    weighted_precision: float
    weighted_f1: float
    ece: float
    auroc: float
    support: npt.NDArray[np.int64]
    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    f1: npt.NDArray[np.float64]
    class_auroc: npt.NDArray[np.float64]
    confusion: npt.NDArray[np.int64] | None

    def scalars(self, split: str = "valid") -> dict[str, float]:
        """`valid_loss`, `valid_accuracy`, … in the order of `SCALARS`, without those that this many classes lack."""
        named = {name.removeprefix("valid_"): getattr(self, name.removeprefix("valid_")) for name in SCALARS}
        return {f"{split}_{name}": value for name, value in named.items() if value is not None}

    def worst_classes(self, limit: int) -> list[int]:
        """The classes with samples that have the lowest F1, the worst first; of equals the first in class order."""
        order = np.argsort(np.nan_to_num(self.f1), kind="stable")
        return [int(index) for index in order if self.support[index] > 0][:limit]


def measure(answers: Evaluation) -> Metrics:
    """Works out every metric of one or more samples over two or more classes, on the CPU.

    torchmetrics is imported when it is first needed, since that takes a second.
    """
    with _one_thread():
        return _measured(answers)


def _measured(answers: Evaluation) -> Metrics:
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

    num_classes = answers.logits.shape[1]
    # Not by torchmetrics: where torch is held to deterministic algorithms it counts pairs of classes by comparing each
    # sample with each of K x K cells, 10 GB for 10,000 samples of 1,000 classes.
    support = _counts(answers.labels, num_classes)
    taken = _counts(answers.predictions, num_classes)
    right = _counts(answers.labels[answers.predictions == answers.labels], num_classes)
    precision, recall = _ratio(right, taken), _ratio(right, support)
    f1 = _ratio(2 * right, taken + support)
    occurs = taken + support > 0
    class_auroc = np.full(num_classes, np.nan)
    scalars: dict[str, float | None] = {name.removeprefix("valid_"): np.nan for name in SCALARS}
    if answers.probabilities.isfinite().all():
        class_auroc = _each_against_the_rest(answers.logits, answers.labels, support)
        # Full certainty goes into the last bin; torchmetrics would count a bin of its own for it.
        short_of_one = answers.probabilities.clamp(max=1 - torch.finfo(torch.float32).eps)
        ece = multiclass_calibration_error(
            short_of_one, answers.labels, num_classes, NUM_BINS, "l1", validate_args=False
        )
        ranked = class_auroc[~np.isnan(class_auroc)]
        scalars |= {
            "loss": answers.loss,
            "accuracy": answers.accuracy,
            "macro_precision": _mean(precision[occurs]),
            "macro_recall": _mean(recall[occurs]),
            "macro_f1": _mean(f1[occurs]),
            "weighted_precision": _mean(precision, support),
            "weighted_f1": _mean(f1, support),
            "ece": ece.item(),
            "auroc": float(ranked.mean()) if len(ranked) else np.nan,
        }
        if num_classes > TOP:
            top = multiclass_accuracy(
                answers.logits, answers.labels, num_classes, "micro", top_k=TOP, validate_args=False
            )
            # A share of samples, which float32 gives with noise in its last digits.
            scalars["top5_accuracy"] = round(top.item() * len(answers.labels)) / len(answers.labels)
    if num_classes <= TOP:
        scalars["top5_accuracy"] = None
    return Metrics(
        **scalars,  # type: ignore[arg-type]
        support=support,
        precision=precision,
        recall=recall,
        f1=f1,
        class_auroc=class_auroc,
        confusion=answers.confusion if num_classes <= LARGEST_CONFUSION else None,
    )


def _each_against_the_rest(logits: Tensor, labels: Tensor, support: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    from torchmetrics.functional.classification import binary_auroc

    # In float64, a class at a time: in float32 many confident answers are 1 exactly, and ties cost area.
    normaliser = logits.double().logsumexp(1)
    areas = np.full(len(support), np.nan)
    for index in np.flatnonzero((support > 0) & (support < len(labels))).tolist():
        probability = (logits[:, index].double() - normaliser).exp()
        areas[index] = binary_auroc(probability, (labels == index).long(), validate_args=False).item()
    return areas


@contextmanager
def _one_thread() -> Iterator[None]:
    """For thousands of small operations, which threads on a busy machine spend most of their time waiting in."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _counts(classes: Tensor, num_classes: int) -> npt.NDArray[np.int64]:
    counts: npt.NDArray[np.int64] = classes.bincount(minlength=num_classes).numpy()
    return counts


def _ratio(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    ratio: npt.NDArray[np.float64] = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return ratio


def _mean(values: npt.NDArray[np.float64], weights: npt.NDArray[np.int64] | None = None) -> float:
    return float(np.average(np.nan_to_num(values), weights=weights))
