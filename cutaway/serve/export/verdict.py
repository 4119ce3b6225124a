"""Whether what was measured is good enough, and what speaks against a file where it is not."""

from __future__ import annotations

from collections.abc import Mapping

from cutaway.errors import ExportError
from cutaway.serve.export.comparison import OPEN_PROBABILITY, ROUNDING
from cutaway.serve.export.figures import Figures, Thresholds

_DETERMINED_SHARE = 0.5

# What each limit is called in a file's metadata.
_NAMES = {
    "probability_difference": "probability",
    "logit_difference": "logit",
    "top1_agreement": "top1_agreement",
    "heatmap_correlation": "heatmap_correlation",
    "heatmap_difference": "heatmap_difference",
    "heatmap_share": "heatmap_share",
    "feature_difference": "feature",
}
_OF_HEATMAPS = ("heatmap_correlation", "heatmap_difference", "heatmap_share")
_OF_FEATURES = ("feature_difference",)


class DisagreementError(ExportError):
    """A file was measured, and disagrees with its network.

    Args:
        message: As of `CutawayError`.
        hint: As of `CutawayError`.
        figures: What was measured.
    """

    def __init__(self, message: str, *, hint: str = "", figures: Figures) -> None:
        super().__init__(message, hint=hint)
        self.figures = figures


def limits_of(thresholds: Thresholds, *, explains: bool, features: bool) -> dict[str, float]:
    """What a file's metadata says that the file was held to.

    Args:
        thresholds: The limits.
        explains: Whether the file has heat-maps.
        features: Whether it gives feature maps.
    """
    left_out = (() if explains else _OF_HEATMAPS) + (() if features else _OF_FEATURES)
    named = {name: getattr(thresholds, own) for name, own in _NAMES.items() if name not in left_out}
    return named | {"times_rounding_of_pytorch": ROUNDING}


def thresholds_of(said: Mapping[str, float]) -> Thresholds:
    """The limits that a file's metadata names, with the usual ones in place of those that it leaves out."""
    return Thresholds(**{own: said[name] for name, own in _NAMES.items() if name in said})


def complaint(figures: Figures, thresholds: Thresholds) -> ExportError | None:
    """What speaks against the file; None where it passes."""
    doubt = _of_answers(figures, thresholds) or _of_maps(figures, thresholds) or _of_encoded(figures, thresholds)
    if doubt is not None and figures.float64_failed:
        hint = f"{doubt.hint} PyTorch could not run the network in float64 to tell whether float32 is exact enough."
        return ExportError(doubt.message, hint=hint)
    return doubt


_FAULT = "This is a fault of the export, or the network's answer depends on the batch: please report it."


def _of_answers(figures: Figures, thresholds: Thresholds) -> ExportError | None:
    # Here and below written so that NaN fails.
    if not figures.probability_share >= 1:
        if figures.probability_rounding is not None and not figures.probability_rounding <= OPEN_PROBABILITY:
            return ExportError(
                f"The network's probabilities are open in float32: PyTorch's own are up to "
                f"{figures.probability_rounding:.2g} from those in float64, and the file's up to "
                f"{figures.probability_difference:.2g} from PyTorch's.",
                hint="No file can repeat them. Look for huge activations, tiny BatchNorm variances or random numbers.",
            )
        return ExportError(
            f"The exported file disagrees with PyTorch: probabilities differ by up to "
            f"{figures.probability_difference:.2g}, allowed is {thresholds.probability:.2g}"
            f"{_rounding_allowed(figures.probability_rounding)}.",
            hint=_FAULT,
        )
    if not figures.logit_share >= 1:
        return ExportError(
            f"The exported file disagrees with PyTorch: logits differ by up to {figures.logit_difference:.2g} of what "
            f"pictures change of them, allowed is {thresholds.logit:.2g}{_rounding_allowed(figures.logit_rounding)}.",
            hint=_FAULT,
        )
    if not figures.top1_agreement >= thresholds.top1_agreement:
        return ExportError(
            f"The exported file disagrees with PyTorch on the top class in {1 - figures.top1_agreement:.0%} of "
            f"{figures.comparisons} comparisons.",
            hint=_FAULT,
        )
    if figures.feature_share is not None and not figures.feature_share >= 1:
        return ExportError(
            f"The exported file disagrees with PyTorch: feature maps differ by up to {figures.feature_difference:.2g} "
            f"of their largest value, allowed is {thresholds.feature:.2g}.",
            hint=_FAULT,
        )
    return None


def _of_maps(figures: Figures, thresholds: Thresholds) -> ExportError | None:
    if figures.heatmap_share is None:
        return None
    other_map = "Choose another --target-layer, or export with --no-explain."
    if not figures.heatmap_share >= thresholds.heatmap_share:
        return ExportError(
            f"The exported heat-maps disagree with PyTorch's in {1 - figures.heatmap_share:.0%} of "
            f"{figures.comparisons} comparisons (smallest correlation {figures.heatmap_correlation}).",
            hint=other_map,
        )
    if figures.heatmap_others:
        return ExportError(
            f"The exported heat-maps are other maps than PyTorch's in {figures.heatmap_others} of "
            f"{figures.comparisons} comparisons (smallest correlation {figures.heatmap_correlation}).",
            hint=other_map,
        )
    if figures.heatmap_wrong_flags:
        return ExportError(
            f"The exported file says wrongly whether a heat-map is faint, in {figures.heatmap_wrong_flags} of "
            f"{figures.comparisons} comparisons.",
            hint=_FAULT,
        )
    if figures.heatmap_rounding is not None and not (figures.heatmap_determined or 0) >= _DETERMINED_SHARE:
        return ExportError(
            f"The network's heat-maps are rounding in {1 - (figures.heatmap_determined or 0):.0%} of "
            f"{figures.comparisons} comparisons: PyTorch's own in float32 and in float64 differ there as much as the "
            f"file's do.",
            hint=other_map,
        )
    return None


def _of_encoded(figures: Figures, thresholds: Thresholds) -> ExportError | None:
    if not figures.encoded_pictures:
        return None
    where = "From the encoded file to the answer, the exported file disagrees with training's own evaluation"
    hint = "The preprocessing in the file's metadata or the decoder differs from training's: please report it."
    if figures.encoded_share is None or not figures.encoded_share >= 1:
        return ExportError(
            f"{where}: probabilities differ by up to {figures.encoded_probability_difference:.2g}, allowed is "
            f"{thresholds.probability:.2g}.",
            hint=hint,
        )
    if figures.encoded_top1_agreement is None or not figures.encoded_top1_agreement >= thresholds.top1_agreement:
        return ExportError(f"{where} on the top class.", hint=hint)
    return None


def _rounding_allowed(rounding: float | None) -> str:
    return "" if rounding is None else f", or {ROUNDING:g} times PyTorch's own error, here up to {rounding:.2g}"
