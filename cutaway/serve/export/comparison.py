"""How far a file's answers are from PyTorch's, and what counts as the same where float32 leaves some of it open."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from cutaway.errors import ExportError
from cutaway.inspect.class_activation import speak_for_something
from cutaway.serve.export.figures import Answers, Figures, Floats, Thresholds

# How many times the error of PyTorch's own float32 answer (against its float64 one) a file may be from that answer.
# Both are float32 engines, each with an error of that size, so 2 times is what to expect; more because one picture's
# error may happen to be small.
ROUNDING = 5.0

# Where even that says little: answers that float32 leaves more open than this are not shipped.
OPEN_PROBABILITY = 0.002
_OPEN_SHARE = 0.05

# Beyond these two a map is another map, and no kink of the network explains it.
_OTHER_DIFFERENCE, _OTHER_CORRELATION = 0.5, 0.9

# A heat-map so much above or below the border of what is called faint lies clearly on its side.
_DOUBT = 2.0

# What pictures change of the logits is at least this share of the largest of them: below it lies float32's own grain.
_GRAIN = 1e-3


def compare(
    ours: Answers,
    theirs: Answers,
    thresholds: Thresholds,
    exactly: Answers | None = None,
    *,
    pictures: int,
    batch_sizes: tuple[int, ...],
    picture_sizes: tuple[tuple[int, int], ...],
) -> Figures:
    """Measures how far a file's answers are from PyTorch's.

    Args:
        ours: The file's answers.
        theirs: PyTorch's.
        thresholds: What the file is held to.
        exactly: PyTorch's in float64.
        pictures: As of `Figures`.
        batch_sizes: As of `Figures`.
        picture_sizes: As of `Figures`.

    Raises:
        ExportError: Answers are of different shapes.
    """
    for name, a, b in (
        ("logits", ours.logits, theirs.logits),
        ("probabilities", ours.probabilities, theirs.probabilities),
    ):
        _check_shapes(name, a, b)
    probabilities = compare_probabilities(
        ours.probabilities, theirs.probabilities, thresholds, None if exactly is None else exactly.probabilities
    )
    unit = _what_pictures_change(theirs.logits)
    logits = _largest(ours.logits - theirs.logits) / unit
    logit_rounding = None if exactly is None else _largest(theirs.logits - exactly.logits) / unit
    figures = Figures(
        pictures=pictures,
        comparisons=len(ours.logits),
        batch_sizes=batch_sizes,
        picture_sizes=picture_sizes,
        probability_difference=probabilities.difference,
        probability_share=probabilities.share,
        top1_agreement=probabilities.top1_agreement,
        probability_rounding=probabilities.rounding,
        logit_difference=float(logits.max()),
        logit_share=float((logits <= allowed(thresholds.logit, logit_rounding, _OPEN_SHARE)).mean()),
        logit_rounding=None if logit_rounding is None else float(logit_rounding.max()),
        scores_in_unit_range=bool(theirs.logits.min() >= 0 and theirs.logits.max() <= 1),
    )
    figures = _with_heatmaps(figures, ours, theirs, thresholds, exactly)
    return _with_features(figures, ours, theirs, thresholds, exactly)


@dataclass(frozen=True)
class ProbabilityFigures:
    """How far probabilities are apart, as `Figures` says it.

    Attributes:
        difference: Largest of any probability.
        share: Of pictures whose probabilities keep their limit.
        top1_agreement: Share of pictures with the same top class, ties counted as the same.
        rounding: Largest error of PyTorch's own float32; None where not measured.
    """

    difference: float
    share: float
    top1_agreement: float
    rounding: float | None


def compare_probabilities(
    ours: Floats, theirs: Floats, thresholds: Thresholds, exactly: Floats | None = None
) -> ProbabilityFigures:
    """Measures how far two sets of probabilities [N, K] are apart, picture by picture."""
    differences = _largest(ours - theirs)
    rounding = None if exactly is None else _largest(theirs - exactly)
    limits = allowed(thresholds.probability, rounding, OPEN_PROBABILITY)
    chosen = np.take_along_axis(theirs, ours.argmax(1)[:, None], axis=1)[:, 0]
    return ProbabilityFigures(
        difference=float(differences.max()),
        share=float((differences <= limits).mean()),
        top1_agreement=float((theirs.max(1) - chosen <= limits).mean()),
        rounding=None if rounding is None else float(rounding.max()),
    )


def allowed(limit: float, rounding: Floats | None, most: float) -> Floats | float:
    """The largest allowed difference of each picture, given PyTorch's own errors where these were measured.

    A picture is held to its own error, or to the usual one where its own happens to be smaller: one picture that
    float32 leaves open excuses no other.

    Args:
        limit: Allowed in any case.
        rounding: PyTorch's own error at each picture [N].
        most: Beyond this an error is no rounding any more, and excuses nothing.
    """
    if rounding is None:
        return limit
    believed = np.where(rounding <= most, rounding, 0.0)  # NaN excuses nothing either
    usual = float(np.median(believed))
    return np.where(rounding <= most, np.maximum(limit, ROUNDING * np.maximum(believed, usual)), limit)


def compare_heatmaps(ours: Floats, theirs: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How two sets of maps differ, map by map.

    Args:
        ours: [N, h, w].
        theirs: [N, h, w].

    Returns:
        Correlation [N], NaN where either map is flat; and largest difference as a share of the largest of `theirs`
        [N]. A map that is nearly zero beside the others is measured by their largest value: its own is rounding.
    """
    a, b = ours.reshape(len(ours), -1).astype(np.float64), theirs.reshape(len(theirs), -1).astype(np.float64)
    floor = max(float(b.max()) * 1e-6, float(np.finfo(np.float32).tiny))
    differences = np.abs(a - b).max(1) / np.maximum(b.max(1), floor)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    spread = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    flat = (np.abs(a).max(1) <= floor) | (np.abs(b).max(1) <= floor)
    return np.where(flat, np.nan, (a * b).sum(1) / np.where(flat, 1.0, spread)), differences


def _with_heatmaps(
    figures: Figures, ours: Answers, theirs: Answers, thresholds: Thresholds, exactly: Answers | None
) -> Figures:
    if ours.heatmaps is None and theirs.heatmaps is None:
        return figures
    if ours.heatmaps is None or theirs.heatmaps is None:
        raise ExportError(
            f"The file gives {'no' if ours.heatmaps is None else 'a'} heat-map, and PyTorch the opposite."
        )
    a, b = ours.heatmaps, theirs.heatmaps
    _check_shapes("heat-maps", a, b)
    correlations, differences = compare_heatmaps(a, b)
    determined = (differences <= thresholds.heatmap_difference) & ~(correlations < thresholds.heatmap_correlation)
    # Written so that NaN of a map that is not finite counts, and NaN of a flat map's correlation does too.
    others = ~(differences <= _OTHER_DIFFERENCE) & ~(correlations >= _OTHER_CORRELATION)
    kept, own = determined, None
    if exactly is not None and exactly.heatmaps is not None:
        _, own = compare_heatmaps(exactly.heatmaps, b)
        # A correlation says nothing about a map of which so much is rounding.
        excused = (differences <= ROUNDING * own) & (ROUNDING * own > thresholds.heatmap_difference)
        kept, others = determined | excused, others & ~excused
    return replace(
        figures,
        heatmap_correlation=None if np.isnan(correlations).all() else float(np.nanmin(correlations)),
        heatmap_difference=float(differences.max()),
        heatmap_share=float(kept.mean()),
        heatmap_others=int(others.sum()),
        heatmap_rounding=None if own is None else float(own.max()),
        heatmap_determined=float(determined.mean()),
        heatmap_wrong_flags=None if ours.faint is None else _wrong_flags(ours, ours.faint),
    )


def _wrong_flags(ours: Answers, faint: npt.NDArray[np.bool_]) -> int:
    """How many flags do not follow from the file's own heat-map and logits, where rounding leaves no doubt."""
    assert ours.heatmaps is not None
    maps, logits = torch.from_numpy(ours.heatmaps), torch.from_numpy(ours.logits)
    surely = speak_for_something(maps / _DOUBT, logits).numpy()
    perhaps = speak_for_something(maps * _DOUBT, logits).numpy()
    return int(((faint & surely) | (~faint & ~perhaps)).sum())


def _with_features(
    figures: Figures, ours: Answers, theirs: Answers, thresholds: Thresholds, exactly: Answers | None
) -> Figures:
    if ours.features.keys() != theirs.features.keys():
        raise ExportError(
            f"The file gives the features {', '.join(ours.features) or 'of no layer'}, "
            f"PyTorch those {', '.join(theirs.features) or 'of no layer'}."
        )
    worst, kept = [], []
    for name, a in ours.features.items():
        b = theirs.features[name]
        _check_shapes(name, a, b)
        a, b = a.reshape(len(a), -1).astype(np.float64), b.reshape(len(b), -1).astype(np.float64)
        largest = np.abs(b).max(1)
        unit = np.maximum(largest, max(float(largest.max()) * 1e-3, float(np.finfo(np.float32).tiny)))
        differences, rounding = _largest(a - b) / unit, None
        if exactly is not None:
            rounding = _largest(b - exactly.features[name].reshape(len(b), -1)) / unit
        worst.append(differences.max())
        kept.append(differences <= allowed(thresholds.feature, rounding, _OPEN_SHARE))
    if not worst:
        return figures
    return replace(figures, feature_difference=float(np.max(worst)), feature_share=float(np.mean(kept)))


def _what_pictures_change(logits: Floats) -> float:
    """The widest range of any class's logit over the pictures, with float32's grain as the least: logits [N, K]."""
    change = float((logits.max(0) - logits.min(0)).max())
    return max(change, _GRAIN * float(np.abs(logits).max()), float(np.finfo(np.float32).tiny))


def _largest(differences: Floats) -> Floats:
    """[N, K] -> the largest of each row [N]; NaN where a row has one."""
    largest: Floats = np.abs(differences).max(1)
    return largest


def _check_shapes(what: str, ours: Floats, theirs: Floats) -> None:
    if ours.shape != theirs.shape:
        raise ExportError(f"The exported {what} are of shape {ours.shape[1:]}, PyTorch's are {theirs.shape[1:]}.")
