"""Section: the same pictures by several methods, and which of these to believe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    Lead,
    MethodComparison,
    compare_methods,
    randomisation_check,
    shows_the_picture,
    what_it_shows,
    which_to_believe,
)
from cutaway.inspect.faithfulness.drawing import draw_curves, draw_randomisation
from cutaway.inspect.faithfulness.verdicts import JUDGES
from cutaway.inspect.report import measuring_costs as costs
from cutaway.inspect.report.document import PICTURE_SIDE
from cutaway.inspect.report.subject import Subject
from cutaway.inspect.tiles import fitted
from cutaway.networks.target_layers import TargetLayer
from cutaway.preprocessing.spec import Pixels

SHOWN, MOST_MEASURED, FEWEST_MEASURED = 4, 16, 5
# Of a network's multiply-accumulates: some ten seconds to a minute on a few cores.
_BUDGET = 1.5e12
# For the pictures shown, of a method that takes far more passes than others.
_BUDGET_OF_SHOWN = 4e11

ExplainNetwork = Callable[[nn.Module, Tensor, Tensor], Tensor]

_ATTRIBUTIONS = {
    "saliency": "saliency",
    "input-x-gradient": "input × gradient",
    "guided-backprop": "guided backprop",
    "integrated-gradients": "integrated gradients",
    "deep-lift": "DeepLIFT",
    "occlusion": "occlusion",
}
_SAID = {
    "deletion": "what a map calls most important is taken away first; the sooner the answer falls, the better. Low is "
    "good.",
    "insertion": "it comes first instead. High is good.",
    "road": "what is taken away is filled in from its surroundings, and the strongest pixels are compared with the "
    "weakest. High is good.",
    "drop": "the share of the probability that is lost when only what the map lets through is shown. Low is good.",
    "increase": "the share of pictures of which the network is surer then. High is good, but a map that is strong "
    "everywhere does well by these two.",
    "infidelity": "how badly a map foretells what noise does to the class's score: 0 where it foretells all, 1 where "
    "it is of no use. Low is good.",
    "max-sensitivity": "the most that a map changes, as a share of itself, when the picture changes a little. Low is "
    "good, but a map that is the same for every picture changes least.",
}


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


@dataclass(frozen=True)
class Explainer:
    """A method.

    Attributes:
        name: As commands take it.
        title: As the report calls it.
        explain: Makes its heat-maps.
    """

    name: str
    title: str
    explain: ExplainNetwork


def gather(subject: Subject) -> Mapping[str, Any] | None:
    """Maps of some pictures side by side, and how faithful each method is as far as that can be afforded."""
    recognised, mistaken = subject.recognised_and_mistaken
    chosen = [*mistaken[: SHOWN // 2], *recognised][:MOST_MEASURED]
    if not chosen:
        return None
    pictures = [subject.picture(index) for index in chosen]
    inputs, answers = subject.inputs(pictures), subject.answers.logits[chosen].argmax(1).cpu()
    explainers, maps, left_out = _explained(subject, inputs[:SHOWN], answers[:SHOWN])
    if not maps:
        return None
    rows = [
        Row(
            pictures[at],
            subject.classes[int(answers[at])],
            {name: _drawn(pictures[at], found[at].detach().cpu().numpy()) for name, found in maps.items()},
        )
        for at in range(min(SHOWN, len(chosen)))
    ]
    sanity = _randomised(subject, inputs[:SHOWN], answers[:SHOWN], explainers)
    is_complete = any(one.name == "integrated-gradients" for one in explainers)
    return {
        "rows": rows,
        "methods": list(maps),
        "left_out": left_out,
        "completeness": _completeness(subject, inputs[:SHOWN], answers[:SHOWN]) if is_complete else None,
        "num_pictures": len(chosen),
        "fewest": FEWEST_MEASURED,
        "comparison": _measured(subject, inputs, answers, explainers, {} if sanity is None else sanity["doubted"]),
        "sanity": sanity,
        "alone": subject.alone,
    }


def _explained(
    subject: Subject, inputs: Tensor, answers: Tensor
) -> tuple[list[Explainer], dict[str, Tensor], list[str]]:
    """The methods that this network allows, their maps by title, and sentences on the other methods."""
    found: list[Explainer] = []
    maps: dict[str, Tensor] = {}
    refused: dict[str, list[str]] = {}
    for one in _explainers(subject):
        passes = costs.to_explain(one.name, _size(subject)) * len(inputs)
        if one.name == "occlusion" and passes * subject.table.totals.macs > _BUDGET_OF_SHOWN:
            said = "it takes too long with this network; cutaway inspect attribution --method occlusion draws it."
            refused.setdefault(said, []).append(one.title)
            continue
        try:
            maps[one.title] = one.explain(subject.network, inputs, answers)
        except (InspectionError, NetworkError) as error:
            refused.setdefault(error.message, []).append(one.title)
        else:
            found.append(one)
    return found, maps, [f"Without {', '.join(titles)}: {said}" for said, titles in refused.items()]


def _completeness(subject: Subject, inputs: Tensor, answers: Tensor) -> Mapping[str, Any]:
    """How far integrated gradients are from adding up to what they explain, the worst of some pictures."""
    found = attribute(subject.network, inputs, "integrated-gradients", answers)
    assert found.gap is not None
    assert found.difference is not None
    worst = int(found.gap.abs().argmax())
    return {"baseline": found.baseline, "gap": float(found.gap[worst]), "difference": float(found.difference[worst])}


def _measured(
    subject: Subject, inputs: Tensor, answers: Tensor, explainers: Sequence[Explainer], doubted: Mapping[str, str]
) -> Mapping[str, Any] | None:
    """How faithful each method is, with what speaks against some all the same; None where it would take too long."""
    plan = costs.affordable([one.name for one in explainers], _size(subject), _passes(subject), len(inputs))
    number = plan.num_pictures
    if number < FEWEST_MEASURED:
        return None
    found = compare_methods(
        subject.network,
        inputs[:number],
        {one.title: partial(one.explain, subject.network) for one in explainers if one.name in plan.methods},
        answers[:number],
        metrics=plan.metrics,
        preprocessing=subject.preprocessing,
        track=subject.track,
    )
    verdict = which_to_believe(found)
    others = tuple(metric for metric in plan.metrics if metric not in JUDGES)
    titles = {one.name: one.title for one in explainers} | {name: metric.title for name, metric in METRICS.items()}
    return {
        "num_pictures": found.num_pictures,
        "verdict": verdict.sentence,
        "but": [doubted[title] for title in verdict.believed if title in doubted],
        "cut_off": found.cut_off,
        "tables": [_table(found, metrics) for metrics in (JUDGES, others)],
        "left_out": [titles[name] for name in plan.left_out],
        "names": [one.name for one in explainers],
        "figure": pixels(draw_curves(found)),
    }


def _randomised(
    subject: Subject, inputs: Tensor, answers: Tensor, explainers: Sequence[Explainer]
) -> Mapping[str, Any] | None:
    """Whether maps change as a copy of the network forgets; None where that would take too long."""
    size, passes = _size(subject), _passes(subject) / len(inputs)
    # Occlusion takes as long as all the others together.
    kept = [one for one in explainers if one.name != "occlusion"] or list(explainers)
    kept = list(explainers) if costs.to_randomise([one.name for one in explainers], size) <= passes else kept
    if costs.to_randomise([one.name for one in kept], size) > passes:
        return None
    found = {
        one.title: randomisation_check(subject.network, inputs, one.explain, answers, track=subject.track)
        for one in kept
    }
    return {
        "num_pictures": len(inputs),
        "sentences": [what_it_shows(name, one) for name, one in found.items()],
        "doubted": {name: what_it_shows(name, one) for name, one in found.items() if shows_the_picture(one)},
        "left_out": [one.title for one in explainers if one not in kept],
        "figure": pixels(draw_randomisation(found)),
    }


def _passes(subject: Subject) -> float:
    """How many forward passes of a picture can be paid for."""
    return _BUDGET / max(1, subject.table.totals.macs)


def _size(subject: Subject) -> tuple[int, int]:
    _, height, width = subject.preprocessing.input_shape
    return height, width


def _table(found: MethodComparison, metrics: Sequence[str]) -> Mapping[str, Any]:
    """What the template shows of some of the measures."""
    return {
        "metrics": [METRICS[metric].title for metric in metrics],
        "said": [_SAID[metric] for metric in metrics],
        "best": [found.best(metric) for metric in metrics],
        "rows": [
            {
                "method": method,
                "is_reference": method in found.references,
                "cells": [_cell(found, method, metric) for metric in metrics],
            }
            for method in found.methods
        ],
    }


def _cell(found: MethodComparison, method: str, metric: str) -> tuple[float, float, Lead | None, str]:
    row, column = found.methods.index(method), found.metrics.index(metric)
    return (
        float(found.mean[row, column]),
        float(found.standard_error[row, column]),
        found.lead_over_random(method, metric),
        _doubt(found, method, metric),
    )


def _doubt(found: MethodComparison, method: str, metric: str) -> str:
    """Why a figure speaks for nothing: a map that knows nothing is as good, or chance is not ruled out."""
    if method in found.references:
        return ""
    column = found.metrics.index(metric)
    sign = 1 if METRICS[metric].higher_is_better else -1
    own = sign * float(found.mean[found.methods.index(method), column])
    others = {name: sign * float(found.mean[found.methods.index(name), column]) for name in found.references}
    known = {name: value for name, value in others.items() if value == value}
    if not known:
        return ""  # the measure says nothing of maps that don't look at the network
    best = max(known, key=lambda name: known[name])
    if known[best] >= own:
        return f"no better than {best}"
    return "" if found.beats_random(method, metric) else "not told from chance"


def _explainers(subject: Subject) -> list[Explainer]:
    found = []
    if subject.target is not None:
        for name in ("grad-cam", "hirescam", "layercam"):
            found.append(Explainer(name, CAM_METHODS[name].title, partial(_cam, method=name, target=subject.target)))
    for name, title in _ATTRIBUTIONS.items():
        found.append(Explainer(name, title, partial(_attributed, method=name)))
    return found


def _cam(network: nn.Module, pictures: Tensor, classes: Tensor, *, method: str, target: TargetLayer) -> Tensor:
    return class_activation_maps(network, pictures, method, target, class_index=classes).maps


def _attributed(network: nn.Module, pictures: Tensor, classes: Tensor, *, method: str) -> Tensor:
    return attribute(network, pictures, method, classes).heatmap


def _drawn(picture: Pixels, heatmap: npt.NDArray[np.floating]) -> Pixels | None:
    if not np.isfinite(heatmap).all() or is_empty(heatmap):
        return None
    return overlay(fitted(picture, PICTURE_SIDE), heatmap, opacity=0.6)
