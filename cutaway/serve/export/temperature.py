"""Temperature scaling: one number that makes a network as sure as it is right, fitted on pictures it did not learn.

Guo et al., On Calibration of Modern Neural Networks, 2017 (arXiv:1706.04599), equation 9: the probabilities are the
softmax of the logits divided by the temperature T > 0. It changes no order of classes, and so no top class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from cutaway.errors import ExportError
from cutaway.evaluation import Evaluation
from cutaway.inspect.calibration import measure_calibration

LARGEST = 50.0
# Of fewer pictures a temperature says little.
FEW_PICTURES = 100
_HALVINGS = 60
_CALIBRATE_ON_MORE = "Calibrate on more pictures, or export without --calibrate."


@dataclass(frozen=True)
class Calibrated:
    """A temperature, and what it does to the network's confidence.

    Attributes:
        temperature: Above 1 where the network is surer than right.
        standard_error: Of the temperature, from the curvature of the likelihood.
        num_fitted: Validation pictures that it was fitted on.
        measured_on: Name of the split of the figures below; that of fitting where there is no other.
        num_measured: Its pictures.
        ece_before: Expected calibration error with temperature 1.
        ece_after: With this one.
        nll_before: Mean negative log-likelihood in nats, with temperature 1.
        nll_after: With this one.
    """

    temperature: float
    standard_error: float
    num_fitted: int
    measured_on: str
    num_measured: int
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float

    @property
    def is_on_few(self) -> bool:
        """Whether so few pictures say little."""
        return self.num_fitted < FEW_PICTURES


def calibrate(valid: Evaluation, test: Evaluation | None = None) -> Calibrated:
    """Fits a temperature and measures what it does.

    Args:
        valid: Answers to the validation split, which the temperature is fitted on.
        test: To the test split, which it is measured on; on the validation split where None.

    Raises:
        ExportError: There are no such pictures, or no temperature is best for them.
    """
    temperature, standard_error = fit_temperature(valid.logits, valid.labels)
    measured = valid if test is None else test
    before, after = (
        measure_calibration(Evaluation(measured.logits.double() / divisor, measured.labels))
        for divisor in (1.0, temperature)
    )
    return Calibrated(
        temperature=temperature,
        standard_error=standard_error,
        num_fitted=len(valid.labels),
        measured_on="valid" if test is None else "test",
        num_measured=len(measured.labels),
        ece_before=before.ece,
        ece_after=after.ece,
        nll_before=before.nll,
        nll_after=after.nll,
    )


def fit_temperature(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """The temperature of the highest likelihood.

    The mean negative log-likelihood is convex in 1 / T, so its slope there changes sign at most once and halving finds
    the place: the same to the last bit on every machine, which an optimiser's last steps are not.

    Args:
        logits: [N, K].
        labels: int64 [N].

    Returns:
        The temperature, of six digits, and its standard error.

    Raises:
        ExportError: There are no pictures, or the likelihood goes on rising as T goes to 0 or beyond `LARGEST`.
    """
    scores = logits.detach().cpu().double()
    truth = labels.cpu()
    if len(truth) == 0:
        raise ExportError(
            "There are no validation pictures to calibrate on.",
            hint="Name a data set with a validation split by --data, or export without --calibrate.",
        )
    if not bool(scores.isfinite().all()):
        raise ExportError("The network's scores are not finite, so they cannot be calibrated.")
    if not _slope(scores, truth, 1 / LARGEST) < 0:
        raise ExportError(
            f"On {len(truth)} validation pictures the network is no better than a guess, so no temperature is best.",
            hint=_CALIBRATE_ON_MORE,
        )
    if not _slope(scores, truth, LARGEST) > 0:
        raise ExportError(
            f"Of {len(truth)} validation pictures nearly none is answered wrongly, so they do not say how sure the "
            "network may be.",
            hint=_CALIBRATE_ON_MORE,
        )
    low, high = -math.log(LARGEST), math.log(LARGEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _slope(scores, truth, math.exp(middle)) < 0:
            low = middle
        else:
            high = middle
    inverse = math.exp((low + high) / 2)
    # The second derivative of the summed negative log-likelihood, by 1 / T.
    probabilities = (scores * inverse).softmax(1)
    variance = (probabilities * scores**2).sum(1) - (probabilities * scores).sum(1) ** 2
    temperature = 1 / inverse
    return float(f"{temperature:.6g}"), temperature**2 / math.sqrt(float(variance.sum()))


def _slope(scores: Tensor, truth: Tensor, inverse: float) -> float:
    """Of the mean negative log-likelihood, by 1 / T: how far the expected score lies above the score of the truth."""
    expected = ((scores * inverse).softmax(1) * scores).sum(1)
    return float((expected - scores.gather(1, truth[:, None])[:, 0]).mean())
