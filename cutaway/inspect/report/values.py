"""Sections on the values in a network: what layers return, weights and gradients, and their course in training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cutaway.errors import InspectionError
from cutaway.inspect.canvas import pixels
from cutaway.inspect.histogram_figures import draw_updates, draw_updates_over_time, draw_weights_over_time
from cutaway.inspect.histogram_findings import findings
from cutaway.inspect.histograms import Histogram, bias_histograms, weight_histograms
from cutaway.inspect.layer_statistics import LayerStatistics, Part, layer_statistics
from cutaway.inspect.passes import activation_histograms, loss_gradient_histograms
from cutaway.inspect.report.structure import MOST_OPEN_ROWS
from cutaway.inspect.report.subject import Subject
from cutaway.inspect.run_histories import Moment

MOST_HISTOGRAMS, MOST_OVER_TIME = 48, 24
MOST_MEASURED, MOST_FINDINGS = 256, 8
# Of a network's multiply-accumulates, forward and back: some ten seconds.
_BUDGET = 1e11


@dataclass(frozen=True)
class Group:
    """Histograms of one kind.

    Attributes:
        kind: Of what.
        said: What they show.
        histograms: The first of them.
        total: How many there are.
        findings: What is odd about any of them, the first of the sentences.
    """

    kind: str
    said: str
    histograms: tuple[Histogram, ...]
    total: int
    findings: tuple[str, ...]


def gather_outputs(subject: Subject) -> Mapping[str, Any] | None:
    """What each layer returns over some pictures, and how large the loss's gradients are there."""
    indices = _measured(subject)
    found = _statistics(subject, indices, ("outputs", "gradients")) or _statistics(subject, indices, ("outputs",))
    gradients = {one.layer: one.statistics for one in found if one.part == "gradients"}
    outputs = [one for one in found if one.part == "outputs"]
    if not outputs:
        return None
    return {
        "num_pictures": len(indices),
        "rows": [(one, "×".join(map(str, one.shapes[0])), gradients.get(one.layer)) for one in outputs],
        "open": len(outputs) <= MOST_OPEN_ROWS,
        "broken": next((one.layer for one in outputs if not one.statistics.is_finite), None),
    }


def _statistics(subject: Subject, indices: Sequence[int], parts: Sequence[Part]) -> Sequence[LayerStatistics]:
    """None where gradients cannot be taken of the network, or there are no pictures."""
    batches: Iterable[Any] = subject.batches(indices)
    if "gradients" not in parts:
        batches = (inputs for inputs, _ in subject.batches(indices))
    try:
        return layer_statistics(subject.network, batches, parts=parts)
    except InspectionError:
        return ()


def gather_weights(subject: Subject) -> Mapping[str, Any] | None:
    """How the weights of each layer are distributed, and its gradients and activations over some pictures."""
    indices = _measured(subject)
    seen = f"{len(indices):,} picture{'' if len(indices) == 1 else 's'}"
    groups = [
        _group("weights", "How the weights of each layer are distributed.", weight_histograms(subject.network)),
        _group("biases and norms", "The parameters of one dimension.", bias_histograms(subject.network)),
    ]
    try:
        gradients = loss_gradient_histograms(subject.network, subject.batches(indices))
        groups.append(_group("gradients", f"Of the loss over {seen}, at each parameter.", gradients))
    except InspectionError:
        pass  # frozen weights, or a network that gradients cannot be taken of
    try:
        activations = activation_histograms(subject.network, (inputs for inputs, _ in subject.batches(indices)))
        groups.append(_group("activations", f"What each layer returns over {seen}.", activations))
    except InspectionError:
        pass  # a network that is one module, or a split without pictures
    groups = [group for group in groups if group.total]
    return {"groups": groups} if groups else None


def gather_history(subject: Subject) -> Mapping[str, Any] | None:
    """How weights and updates develop from bundle to bundle; of fewer than three bundles, the last step alone."""
    if len(subject.history) < 3:  # two are no course
        return _last_step(subject.history[-1]) if subject.history else None
    is_moving = any(moment.updates for moment in subject.history)
    return {
        "weights": pixels(draw_weights_over_time(subject.history, limit=MOST_OVER_TIME)),
        "updates": pixels(draw_updates_over_time(subject.history, limit=MOST_OVER_TIME)) if is_moving else None,
        "last_step": None,
    }


def _last_step(moment: Moment) -> Mapping[str, Any] | None:
    """How far the last step moved each parameter, for a run that kept too few bundles to follow it through."""
    if not moment.last_step:
        return None
    rate = "" if moment.lr is None else f", learning rate {moment.lr:.3g}"
    title = f"Updates in step {moment.step}{rate}"
    return {
        "weights": None,
        "updates": None,
        "last_step": pixels(draw_updates(moment.last_step, title=title, limit=MOST_HISTOGRAMS)),
    }


def _measured(subject: Subject) -> list[int]:
    """Samples to take gradients and activations over, as many as can be afforded."""
    return subject.spread(min(MOST_MEASURED, max(1, int(_BUDGET / max(1, subject.table.totals.macs)))))


def _group(kind: str, said: str, histograms: tuple[Histogram, ...]) -> Group:
    odd = findings(histograms, are_activations=kind == "activations")
    return Group(kind, said, histograms[:MOST_HISTOGRAMS], len(histograms), odd[:MOST_FINDINGS])
