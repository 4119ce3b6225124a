"""Whether a network is as sure as it is right: its confidence against how often that holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cutaway.errors import InspectionError
from cutaway.inspect.classwise import Answers
from cutaway.inspect.intervals import wilson
from cutaway.metrics import NUM_BINS


@dataclass(frozen=True, eq=False)
class Calibration:
    """Samples in bins by their confidence, the probability of the top class. B bins of equal width from 0 to 1.

    Attributes:
        edges: float64 [B + 1]. A bin holds its lower edge, the last one 1 too.
        counts: int64 [B], samples in the bin.
        confidence: float64 [B], their mean confidence; NaN where there are none.
        recognised: float64 [B], the share of them that is right; NaN where there are none.
        low: float64 [B], lower end of that share's Wilson interval of 95 %.
        high: float64 [B], its upper end.
        ece: Expected calibration error (Naeini et al. 2015): the mean over samples of how far their bin's confidence
            is from its share.
        mce: Maximum calibration error: the farthest of all bins that hold samples, however few; see `worst_bin`.
        brier: Brier score over all classes, the mean of Σ (p - y)²: 0 at best, 2 at worst.
        nll: Mean negative log-likelihood of the truth, in nats.
        mean_confidence: Over all samples.
        accuracy: Over all samples.
    """

    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    recognised: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    ece: float
    mce: float
    brier: float
    nll: float
    mean_confidence: float
    accuracy: float

    @property
    def num_samples(self) -> int:
        """Samples in all bins."""
        return int(self.counts.sum())

    @property
    def worst_bin(self) -> int:
        """The bin that `mce` is of."""
        return int(np.nanargmax(np.abs(self.confidence - self.recognised)))

    @property
    def worst_may_be_chance(self) -> bool:
        """Whether the confidence of that bin lies within the interval of its share that is right."""
        at = self.worst_bin
        return bool(self.low[at] <= self.confidence[at] <= self.high[at])

    @property
    def overconfidence(self) -> float:
        """How much surer the network is than right, on average; negative where it is less sure."""
        return self.mean_confidence - self.accuracy


def measure_calibration(answers: Answers, *, num_bins: int = NUM_BINS) -> Calibration:
    """Sorts answers into bins by their confidence.

    Args:
        answers: Logits [N, K] and labels [N].
        num_bins: Of equal width.

    Raises:
        InspectionError: There is no sample or no bin, or an answer is no number.
    """
    if num_bins < 1 or len(answers.labels) == 0:
        raise InspectionError(f"{len(answers.labels)} samples cannot be sorted into {num_bins} bins.")
    logits = answers.logits.detach().cpu().double()
    labels = answers.labels.cpu()
    if not bool(logits.isfinite().all()):
        broken = int((~logits.isfinite().all(1)).sum())
        raise InspectionError(
            f"The network's scores of {broken} of {len(labels)} samples are not finite, so they say no confidence.",
            hint="Have its weights diverged in training?",
        )
    confidence = logits.softmax(1).amax(1).numpy()
    is_right = (logits.argmax(1) == labels).numpy()
    edges = np.linspace(0, 1, num_bins + 1)
    bins = np.minimum(np.searchsorted(edges, confidence, side="right") - 1, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    right = np.bincount(bins[is_right], minlength=num_bins)
    sums = np.bincount(bins, confidence, minlength=num_bins)
    held = counts > 0
    mean = np.divide(sums, counts, out=np.full(num_bins, np.nan), where=held)
    share = np.divide(right, counts, out=np.full(num_bins, np.nan), where=held)
    gaps = np.abs(mean - share)[held]
    low, high = wilson(right, counts)
    truth = logits.gather(1, labels[:, None])[:, 0]
    probabilities = logits.softmax(1)
    brier = (probabilities**2).sum(1) - 2 * probabilities.gather(1, labels[:, None])[:, 0] + 1
    return Calibration(
        edges=edges,
        counts=counts,
        confidence=mean,
        recognised=share,
        low=np.where(held, low, np.nan),
        high=np.where(held, high, np.nan),
        ece=float((gaps * counts[held]).sum() / counts.sum()),
        mce=float(gaps.max()),
        brier=float(brier.mean()),
        nll=float((logits.logsumexp(1) - truth).mean()),
        mean_confidence=float(confidence.mean()),
        accuracy=float(is_right.mean()),
    )
