"""Section: the same pictures by several methods, and which of these to believe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from cutaway.errors import InspectionError, NetworkError
from cutaway.heatmaps import is_empty, overlay
from cutaway.inspect.attribution import attribute
from cutaway.inspect.canvas import pixels
from cutaway.inspect.class_activation import METHODS as CAM_METHODS
from cutaway.inspect.class_activation import class_activation_maps
from cutaway.inspect.faithfulness import (
    METRICS,
    MethodComparison,
    compare_methods,
    randomisation_check,
    what_it_shows,
    which_to_believe,
)
from cutaway.inspect.faithfulness.drawing import draw_curves, draw_randomisation
from cutaway.inspect.faithfulness.randomisation import STEPS as RANDOMISATION_STEPS
from cutaway.inspect.report.document import PICTURE_SIDE
from cutaway.inspect.report.subject import Subject
from cutaway.inspect.tiles import fitted
from cutaway.networks.target_layers import TargetLayer
from cutaway.preprocessing.spec import Pixels

SHOWN, MOST_MEASURED, FEWEST_MEASURED = 4, 16, 5
MEASURED_BY = ("deletion", "insertion", "road")
# Of a network's multiply-accumulates: some ten seconds to a minute on a few cores.
_BUDGET = 1.5e12
_RUNS_PER_PICTURE = 600
_RUNS_PER_RANDOMISED_LAYER = 200

ExplainNetwork = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """One picture by every method.

    Attributes:
        picture: uint8 [H, W, 1 or 3], what the network saw.
        label: The class that is explained, the network's own answer.
        overlays: uint8 [H, W, 3] by method; None where nothing speaks for the class.
    """

    picture: Pixels
    label: str
    overlays: Mapping[str, Pixels | None]


def gather(subject: Subject) -> Mapping[str, Any] | None:
    """Maps of some pictures side by side, and how faithful each method is as far as that can be afforded."""
    recognised, mistaken = subject.recognised_and_mistaken
    chosen = [*mistaken[: SHOWN // 2], *recognised][:MOST_MEASURED]
    if not chosen:
        return None
    pictures = [subject.picture(index) for index in chosen]
    inputs, answers = subject.inputs(pictures), subject.answers.logits[chosen].argmax(1).cpu()
    explainers = _explainers(subject)
    try:
        maps = {name: explain(subject.network, inputs[:SHOWN], answers[:SHOWN]) for name, explain in explainers.items()}
    except (InspectionError, NetworkError):
        return None  # a network that gradients cannot be taken of
    rows = [
        Row(
            pictures[at],
            subject.classes[int(answers[at])],
            {name: _drawn(pictures[at], found[at].detach().cpu().numpy()) for name, found in maps.items()},
        )
        for at in range(min(SHOWN, len(chosen)))
    ]
    return {
        "rows": rows,
        "methods": list(maps),
        "completeness": _completeness(subject, inputs[:SHOWN], answers[:SHOWN]),
        "num_pictures": len(chosen),
        "fewest": FEWEST_MEASURED,
        "comparison": _measured(subject, inputs, answers, explainers),
        "sanity": _randomised(subject, inputs[:SHOWN], answers[:SHOWN], explainers),
        "alone": subject.alone,
    }


def _completeness(subject: Subject, inputs: Tensor, answers: Tensor) -> Mapping[str, Any]:
    """How far integrated gradients are from adding up to what they explain, the worst of some pictures."""
    found = attribute(subject.network, inputs, "integrated-gradients", answers)
    assert found.gap is not None
    assert found.difference is not None
    worst = int(found.gap.abs().argmax())
    return {"baseline": found.baseline, "gap": float(found.gap[worst]), "difference": float(found.difference[worst])}


def _measured(
    subject: Subject, inputs: Tensor, answers: Tensor, explainers: Mapping[str, ExplainNetwork]
) -> Mapping[str, Any] | None:
    number = min(_affordable(subject, _RUNS_PER_PICTURE), len(inputs))
    if number < FEWEST_MEASURED:
        return None
    found = compare_methods(
        subject.network,
        inputs[:number],
        {name: partial(explain, subject.network) for name, explain in explainers.items()},
        answers[:number],
        metrics=MEASURED_BY,
        preprocessing=subject.preprocessing,
        track=subject.track,
    )
    return {
        "num_pictures": found.num_pictures,
        "verdict": which_to_believe(found).sentence,
        "cut_off": found.cut_off,
        "metrics": [METRICS[metric] for metric in found.metrics],
        "best": [found.best(metric) for metric in found.metrics],
        "rows": [_table_row(found, number, method) for number, method in enumerate(found.methods)],
        "figure": pixels(draw_curves(found)),
    }


def _randomised(
    subject: Subject, inputs: Tensor, answers: Tensor, explainers: Mapping[str, ExplainNetwork]
) -> Mapping[str, Any] | None:
    """Whether maps change as a copy of the network forgets; None where that would take too long."""
    if _affordable(subject, RANDOMISATION_STEPS * _RUNS_PER_RANDOMISED_LAYER) < len(inputs):
        return None
    found = {
        name: randomisation_check(subject.network, inputs, explain, answers, track=subject.track)
        for name, explain in explainers.items()
    }
    return {
        "num_pictures": len(inputs),
        "sentences": [what_it_shows(name, one) for name, one in found.items()],
        "figure": pixels(draw_randomisation(found)),
    }


def _affordable(subject: Subject, runs: int) -> int:
    """Of how many pictures so many runs can be paid for."""
    return int(_BUDGET / max(1, subject.table.totals.macs) / runs)


def _table_row(found: MethodComparison, number: int, method: str) -> Mapping[str, Any]:
    cells = [
        (
            float(found.mean[number, column]),
            float(found.standard_error[number, column]),
            found.lead_over_random(method, metric),
            _doubt(found, method, metric),
        )
        for column, metric in enumerate(found.metrics)
    ]
    return {"method": method, "is_reference": method in found.references, "cells": cells}


def _doubt(found: MethodComparison, method: str, metric: str) -> str:
    """Why a figure speaks for nothing: a map that knows nothing is as good, or chance is not ruled out."""
    if method in found.references:
        return ""
    column = found.metrics.index(metric)
    sign = 1 if METRICS[metric].higher_is_better else -1
    own = sign * float(found.mean[found.methods.index(method), column])
    others = {name: sign * float(found.mean[found.methods.index(name), column]) for name in found.references}
    best = max(others, key=lambda name: others[name])
    if others[best] >= own:
        return f"no better than {best}"
    return "" if found.beats_random(method, metric) else "not told from chance"


def _explainers(subject: Subject) -> Mapping[str, ExplainNetwork]:
    methods: dict[str, ExplainNetwork] = {}
    if subject.target is not None:
        for name in ("grad-cam", "hirescam", "layercam"):
            methods[CAM_METHODS[name].title] = partial(_cam, method=name, target=subject.target)
    for name in ("saliency", "integrated-gradients"):
        methods[name.replace("-", " ")] = partial(_attributed, method=name)
    return methods


def _cam(network: nn.Module, pictures: Tensor, classes: Tensor, *, method: str, target: TargetLayer) -> Tensor:
    return class_activation_maps(network, pictures, method, target, class_index=classes).maps


def _attributed(network: nn.Module, pictures: Tensor, classes: Tensor, *, method: str) -> Tensor:
    return attribute(network, pictures, method, classes).heatmap


def _drawn(picture: Pixels, heatmap: npt.NDArray[np.floating]) -> Pixels | None:
    if not np.isfinite(heatmap).all() or is_empty(heatmap):
        return None
    return overlay(fitted(picture, PICTURE_SIDE), heatmap, opacity=0.6)
