"""Measures a smaller form against the file in float32 that it was made of, on labelled pictures, and judges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt

from cutaway.datasets.split import Split
from cutaway.errors import ExportError
from cutaway.progress import Track, silent
from cutaway.serve.classifier import Classifier
from cutaway.serve.export.comparison import compare_heatmaps

WITH_FEATURES = 16
"""On so many pictures feature maps are compared: those of all would not fit into memory."""

_BATCH = 64


@dataclass(frozen=True)
class Limits:
    """What a smaller form is held to, on the whole validation split. It is not held to the numbers of float32.

    Attributes:
        accuracy_drop: Largest allowed loss of accuracy, as a share: 0.01 is one point of a hundred.
        top1_agreement: Smallest allowed share of pictures with the same top class as in float32. A form may keep the
            accuracy and yet be another classifier.
        heatmap_correlation: Smallest allowed correlation of a picture's heat-map with the one in float32, for the
            class on top in float32, in the mean over the pictures.
        feature_correlation: The same of feature maps, for the layer where it is smallest.
    """

    accuracy_drop: float = 0.01
    top1_agreement: float = 0.9
    heatmap_correlation: float = 0.9
    feature_correlation: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.accuracy_drop <= 1:
            raise ExportError(
                f"The largest accuracy drop is {self.accuracy_drop}, and it is a share from 0 to 1.",
                hint="One point of a hundred is 0.01.",
            )

    def named(self, *, explains: bool, features: bool) -> dict[str, float]:
        """By the names of the metadata, without those of what a file does not give."""
        given = {"heatmap_correlation": explains, "feature_correlation": features}
        return {name: limit for name, limit in asdict(self).items() if given.get(name, True)}


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class FormAnswers:
    """What a file says of all pictures of a split, in order.

    Attributes:
        probabilities: float32 [N, K].
        heatmaps: float32 [N, h, w], of the classes that were asked for; None without.
        features: Layer to what it returned for the first pictures, up to `WITH_FEATURES` of them: [n, ...].
    """

    probabilities: npt.NDArray[np.float32]
    heatmaps: npt.NDArray[np.float32] | None
    features: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    @property
    def top(self) -> npt.NDArray[np.int64]:
        """int64 [N]: the top classes."""
        return np.asarray(self.probabilities.argmax(1), np.int64)


@dataclass(frozen=True)
class FormFigures:
    """What was measured of a form on a split.

    Attributes:
        pictures: How many.
        accuracy_before: Of the file in float32.
        accuracy: Of the form.
        top1_agreement: Share of pictures with the same top class.
        probability_difference: Largest of any probability.
        heatmap_correlation: With the map in float32, in the mean over pictures whose map there is not flat; 0 of one
            that is flat or not finite in the form alone. None without heat-maps, or where all are flat in float32.
        feature_correlation: The same of feature maps, the smallest of any layer; None without.
    """

    pictures: int
    accuracy_before: float
    accuracy: float
    top1_agreement: float
    probability_difference: float
    heatmap_correlation: float | None = None
    feature_correlation: float | None = None

    @property
    def accuracy_drop(self) -> float:
        """Lost accuracy; negative where it was gained."""
        return self.accuracy_before - self.accuracy


def ask(
    classifier: Classifier, split: Split, explained: Sequence[int] | None = None, *, track: Track = silent
) -> FormAnswers:
    """Runs a file over a split, as it is served.

    Args:
        classifier: Of the file.
        split: At least one picture.
        explained: The class to explain in each picture; the top one where None.
        track: Told of every batch.
    """
    probabilities, heatmaps = [], []
    features: dict[str, npt.NDArray[np.float32]] = {}
    for places in track(*in_batches(split, classifier.metadata.precision)):
        classes = -1 if explained is None else [int(explained[place]) for place in places]
        is_first = places.start == 0
        images = [split.image(place) for place in places]
        predictions = classifier(images, top_k=1, class_index=classes, features=is_first)
        for prediction in predictions:
            probabilities.append(prediction.probabilities)
            if prediction.heatmap is not None:
                heatmaps.append(prediction.heatmap)
        if is_first:
            shown = predictions[:WITH_FEATURES]
            features = {layer: np.stack([each.features[layer] for each in shown]) for layer in shown[0].features}
    return FormAnswers(np.stack(probabilities), np.stack(heatmaps) if heatmaps else None, features)


def in_batches(split: Split, what: str) -> tuple[list[range], str, int]:
    """The places of a split's pictures, some at a time, with what a `Track` is told of them."""
    batches = [range(start, min(start + _BATCH, len(split))) for start in range(0, len(split), _BATCH)]
    return batches, f"measuring {what} on {split.name}", len(batches)


def measure(before: FormAnswers, form: FormAnswers, labels: npt.NDArray[np.int64]) -> FormFigures:
    """Compares a form with float32.

    Args:
        before: Of the file in float32, explaining its top classes.
        form: Of the form, explaining the same classes.
        labels: int64 [N].
    """
    correlation = None
    if before.heatmaps is not None and form.heatmaps is not None:
        correlation = _correlation(form.heatmaps, before.heatmaps)
    shown = [_correlation(form.features[layer], values) for layer, values in before.features.items()]
    return FormFigures(
        pictures=len(labels),
        accuracy_before=float((before.top == labels).mean()),
        accuracy=float((form.top == labels).mean()),
        top1_agreement=float((form.top == before.top).mean()),
        probability_difference=float(np.abs(form.probabilities - before.probabilities).max()),
        heatmap_correlation=correlation,
        feature_correlation=min((each for each in shown if each is not None), default=None),
    )


def _correlation(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> float | None:
    """In the mean over the maps that are not flat in `theirs`: maps [N, ...]; None where all are."""
    says_something = ~np.isnan(compare_heatmaps(theirs, theirs)[0])
    with np.errstate(invalid="ignore"):  # of what is not finite
        correlations, _ = compare_heatmaps(ours, theirs)
    return float(np.nan_to_num(correlations[says_something]).mean()) if says_something.any() else None


def objection(figures: FormFigures, limits: Limits) -> str:
    """What speaks against a form, in words; empty where it passes."""
    # Written so that NaN fails. A drop of exactly the limit passes, whatever the division left in its last bits.
    if not figures.accuracy_drop <= limits.accuracy_drop + 1e-9:
        return (
            f"accuracy drops from {figures.accuracy_before:.2%} to {figures.accuracy:.2%} on {figures.pictures} "
            f"pictures, allowed are {100 * limits.accuracy_drop:.3g} points"
        )
    if not figures.top1_agreement >= limits.top1_agreement:
        return (
            f"the top class changes in {1 - figures.top1_agreement:.1%} of {figures.pictures} pictures, allowed are "
            f"{1 - limits.top1_agreement:.0%}"
        )
    if figures.heatmap_correlation is not None and not figures.heatmap_correlation >= limits.heatmap_correlation:
        return (
            f"its heat-maps correlate with those of fp32 by {figures.heatmap_correlation:.3f} in the mean, at least "
            f"{limits.heatmap_correlation} is asked for"
        )
    if figures.feature_correlation is not None and not figures.feature_correlation >= limits.feature_correlation:
        return (
            f"feature maps of a layer correlate with those of fp32 by {figures.feature_correlation:.3f} in the mean, "
            f"at least {limits.feature_correlation} is asked for"
        )
    return ""
