"""What is wrong or odd in distributions, in words."""

from __future__ import annotations

from collections.abc import Iterable

from cutaway.inspect.histograms import FAR, Histogram
from cutaway.inspect.updates import UpdateRatio

MANY_ZEROS = 0.5
# What a ReLU lets through has a long tail in every network.
FAR_FOR_ACTIVATIONS = 20.0
LOW_RATIO, HIGH_RATIO = 1e-5, 1e-1


def findings(histograms: Iterable[Histogram], *, are_activations: bool = False) -> tuple[str, ...]:
    """A sentence for each distribution with NaN, infinities, nothing but one value, many zeros, or outliers.

    Args:
        histograms: Of tensors of one kind.
        are_activations: They are of layers' outputs. Of these, values as far out as a ReLU's tail reaches are nothing
            odd, nor are the zeros of those without negative values, as a ReLU and the pooling behind it return them.
    """
    return tuple(sentence for histogram in histograms for sentence in _of_one(histogram, are_activations))


def update_findings(ratios: Iterable[UpdateRatio]) -> tuple[str, ...]:
    """A sentence for each parameter that stands still or changes by much in a step.

    About 1e-3 of the weights in a step is what usually trains well; what lies far from it is worth a look.
    """
    sentences = []
    for update in ratios:
        per_step = update.ratio / max(update.steps, 1)
        if update.update_norm != update.update_norm:
            sentences.append(f"{update.name}: the change is not a number.")
        elif update.update_norm == 0:
            sentences.append(f"{update.name} does not change.")
        elif update.weight_norm == 0:
            sentences.append(f"{update.name} begins at zero, so its change has no ratio.")
        elif per_step < LOW_RATIO:
            sentences.append(f"{update.name} hardly changes: {per_step:.1e} of its size in a step.")
        elif per_step > HIGH_RATIO:
            sentences.append(f"{update.name} changes by {per_step:.2g} of its size in a step.")
    return tuple(sentences)


def _of_one(histogram: Histogram, is_activation: bool) -> list[str]:
    sentences = []
    total = histogram.num_finite + histogram.num_nan + histogram.num_infinite
    if histogram.num_nan:
        sentences.append(f"{histogram.name}: {_of(histogram.num_nan, total)} NaN.")
    if histogram.num_infinite:
        sentences.append(f"{histogram.name}: {_of(histogram.num_infinite, total)} infinite.")
    if histogram.num_finite > 1 and histogram.smallest == histogram.largest:
        sentences.append(f"{histogram.name}: every value is {histogram.smallest:.4g}.")
    elif histogram.zeros > MANY_ZEROS and not (is_activation and histogram.smallest >= 0):
        sentences.append(f"{histogram.name}: {histogram.zeros:.1%} zeros.")
    far = max(abs(histogram.smallest - histogram.mean), abs(histogram.largest - histogram.mean))
    if histogram.num_outliers and not (is_activation and far <= FAR_FOR_ACTIVATIONS * histogram.std):
        many = "1 value lies" if histogram.num_outliers == 1 else f"{histogram.num_outliers:,} values lie"
        sentences.append(
            f"{histogram.name}: {many} more than {FAR:g} standard deviations from the mean, "
            f"the farthest {far / histogram.std:.1f}."
        )
    return sentences


def _of(number: int, total: int) -> str:
    verb = "is" if number == 1 else "are"
    return f"{number:,} of {total:,} values {verb}"
