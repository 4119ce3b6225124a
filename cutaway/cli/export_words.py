"""What an export says of itself, in lines and in JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cutaway.cli.export_examples import tell_examples
from cutaway.cli.export_pictures import SPLIT_NAMES
from cutaway.cli.terminal import as_bytes, say

if TYPE_CHECKING:
    from cutaway.cli.export_reference import Exported
    from cutaway.serve.export import Calibrated, Figures
    from cutaway.serve.export.forms import FormFigures


def tell(exported: Exported) -> None:
    """Says what was made, in a few lines."""
    result = exported.result
    for note in exported.notes:
        say(note)
    say(f"exported {result.path}, {as_bytes(result.num_bytes)}")
    if result.why_not_explained:
        say(f"without a heat-map: {result.why_not_explained}")
    elif result.explained:
        say(f"its heat-map is {result.metadata.title} at {result.metadata.target_layer}")
    if result.metadata.features:
        say(f"it also gives {', '.join(feature.output for feature in result.metadata.features)}")
    say(verified_in_words(result.figures))
    if result.figures.scores_in_unit_range:
        say(
            "all of the network's scores lie between 0 and 1: if it ends with a softmax or sigmoid, export it without, "
            "for the file takes the softmax itself, and of probabilities that makes all classes look alike"
        )
    if result.explained and result.figures.heatmap_correlation is None:
        say("the heat-maps of all these pictures are flat, so nothing of their shape was compared")
    if result.metadata.verification.data.startswith("generated"):
        say("these pictures were generated, since the network came without any; --verify-data names real ones")
    for line in calibration_in_words(exported.calibrated):
        say(line)
    tell_examples(exported.examples)


def verified_in_words(figures: Figures) -> str:
    """How well a file agrees with PyTorch, in a line."""
    found = [f"probabilities differ by {figures.probability_difference:.1e} at most"]
    if figures.encoded_probability_difference is not None:
        found.append(f"from the encoded file to the answer by {figures.encoded_probability_difference:.1e}")
    if figures.heatmap_correlation is not None:
        found.append(f"heat-maps correlate by {figures.heatmap_correlation:.4f} at least")
    return (
        f"verified against PyTorch on {figures.pictures} pictures in {figures.comparisons} comparisons: "
        + ", ".join(found)
    )


def form_in_words(figures: FormFigures, before: str) -> str:
    """The accuracy of a smaller form and `before`, in a line."""
    return (
        f"accuracy on {figures.pictures} validation pictures {figures.accuracy:.2%}, {before} "
        f"{figures.accuracy_before:.2%}; the same top class in {figures.top1_agreement:.2%}"
    )


def origin_as_json(exported: Exported) -> dict[str, Any]:
    """The temperature and the notes: what goes for every form of the file."""
    calibrated = exported.calibrated
    return {"calibration": None if calibrated is None else asdict(calibrated), "notes": exported.notes}


def calibration_in_words(calibrated: Calibrated | None) -> list[str]:
    """The temperature and what it does, a line each; none without one."""
    if calibrated is None:
        return []
    pictures = f"{calibrated.num_fitted} validation pictures"
    lines = [
        f"calibrated: temperature {calibrated.temperature:.3f} ± {calibrated.standard_error:.3f}, fitted on {pictures}",
        f"on {calibrated.num_measured} {SPLIT_NAMES[calibrated.measured_on]} pictures the calibration error goes from "
        f"{calibrated.ece_before:.4f} to {calibrated.ece_after:.4f}, and the negative log-likelihood from "
        f"{calibrated.nll_before:.4f} to {calibrated.nll_after:.4f}",
    ]
    if calibrated.measured_on == "valid":
        lines.append("that is on the pictures that it was fitted on, as there is no test split: it looks better so")
    if calibrated.is_on_few:
        lines.append(f"{pictures} are few to calibrate on; the temperature may be off by twice its error and more")
    return lines
