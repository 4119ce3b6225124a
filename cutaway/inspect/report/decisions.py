"""Section: pictures with what speaks for the network's answer, and what would speak for the right one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cutaway.heatmaps import overlay
from cutaway.inspect.class_activation import grad_cam
from cutaway.inspect.report.document import PICTURE_SIDE
from cutaway.inspect.report.subject import Subject
from cutaway.inspect.tiles import fitted
from cutaway.preprocessing.spec import Pixels


@dataclass(frozen=True)
class Explanation:
    """What speaks for one class in a picture.

    Attributes:
        label: The class.
        probability: What the network gives it.
        overlay: uint8 [H, W, 3], the picture with its heat-map; None where nothing speaks for the class.
    """

    label: str
    probability: float
    overlay: Pixels | None


@dataclass(frozen=True)
class SampleView:
    """One picture with the network's answer.

    Attributes:
        picture: uint8 [H, W, 1 or 3], what the network saw.
        truth: The right class, where it is known.
        explanations: The predicted class first.
    """

    picture: Pixels
    truth: str | None
    explanations: tuple[Explanation, ...]

    @property
    def is_right(self) -> bool:
        """Whether the predicted class is the truth."""
        return self.truth is None or self.explanations[0].label == self.truth


def gather(subject: Subject) -> Mapping[str, Any] | None:
    """The most confident mistakes, and a recognised picture of each class."""
    recognised, mistaken = subject.recognised_and_mistaken
    chosen = [*mistaken, *recognised]
    views = [_view(subject, index) for index in subject.track(chosen, "explaining pictures", len(chosen))]
    layer = None if subject.target is None else subject.target.name
    return content(views, layer) if views else None


def content(views: list[SampleView], target_layer: str | None) -> Mapping[str, Any]:
    """What the section's template shows.

    Args:
        views: Pictures with heat-maps.
        target_layer: Where these were read; None where the network has no such layer.
    """
    groups = (
        ("Most confident mistakes", [view for view in views if not view.is_right]),
        ("Recognised", [view for view in views if view.is_right]),
    )
    return {"target_layer": target_layer, "groups": groups, "views": views}


def _view(subject: Subject, index: int) -> SampleView:
    """One picture with the map of the predicted class, and of the right class where that is another."""
    picture = subject.picture(index)
    logits = subject.answers.logits[index]
    probabilities = logits.softmax(0)
    truth, top = int(subject.answers.labels[index]), int(logits.argmax())
    asked = [top] if top == truth else [top, truth]
    large = fitted(picture, PICTURE_SIDE)
    explanations = []
    for label in asked:
        drawn = None
        if subject.target is not None:
            activation = grad_cam(subject.network, subject.inputs([picture]), subject.target, label)
            if bool(activation.has_evidence[0]):
                drawn = overlay(large, activation.maps[0].cpu().numpy())
        explanations.append(Explanation(subject.classes[label], float(probabilities[label]), drawn))
    return SampleView(picture, subject.classes[truth], tuple(explanations))
