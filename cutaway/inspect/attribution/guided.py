"""Guided backpropagation, alone and times Grad-CAM."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.errors import InspectionError
from cutaway.inspect.attribution.result import Attribution
from cutaway.inspect.attribution.rules import Guided
from cutaway.inspect.attribution.subject import AT_A_TIME, ClassIndex, Subject, gradient_of, prepared
from cutaway.inspect.class_activation import grad_cam
from cutaway.networks.target_layers import TargetLayer


def guided_backprop(
    network: nn.Module, inputs: Tensor, class_index: ClassIndex = -1, *, at_a_time: int = AT_A_TIME
) -> Attribution:
    """Gradients of which only positive ones pass each ReLU on the way back (Springenberg et al., arXiv:1412.6806).

    Every ReLU counts, as a module or a function, in place or not, and each call of a shared one. These maps are sharp,
    and often the same whatever the network learned: see `randomisation_check`.

    Args:
        network: Any classifier that returns logits [N, K] and has ReLUs for its only rectifiers.
        inputs: float [N, C, H, W], preprocessed.
        class_index: The class to explain, one for all pictures or one for each; -1 is a picture's top class.
        at_a_time: The most pictures that go through the network together.

    Raises:
        InspectionError: The network has activations that the method is not defined for, or no ReLU; gradients are
            impossible here; or there is no such class.
    """
    with prepared(network, inputs, class_index, purpose="Guided backpropagation", at_a_time=at_a_time) as subject:
        found = _guided(subject)
        return Attribution(
            "guided-backprop", found, subject.logits, subject.classes, "largest-magnitude", alone=subject.alone
        )


def guided_grad_cam(
    network: nn.Module,
    inputs: Tensor,
    class_index: ClassIndex = -1,
    *,
    target_layer: TargetLayer | str | None = None,
    at_a_time: int = AT_A_TIME,
) -> Attribution:
    """Guided backpropagation times Grad-CAM, enlarged bilinearly (Selvaraju et al., arXiv:1610.02391, section 3.2).

    Arguments and errors are those of `guided_backprop` and, for the target layer, `grad_cam`.
    """
    with prepared(network, inputs, class_index, purpose="Guided Grad-CAM", at_a_time=at_a_time) as subject:
        found = _guided(subject)
        maps = [
            grad_cam(subject.network, some.detach(), target_layer, classes).maps for _, some, classes in subject.parts()
        ]
        enlarged = F.interpolate(torch.cat(maps)[:, None], subject.inputs.shape[2:], mode="bilinear")
        return Attribution(
            "guided-grad-cam",
            found * enlarged,
            subject.logits,
            subject.classes,
            "largest-magnitude",
            alone=subject.alone,
        )


def _guided(subject: Subject) -> Tensor:
    found = []
    for _, some, classes in subject.parts():
        with Guided() as guided:
            scores = subject.scores(some, classes)
        if guided.others or not guided.rectified:
            met = f"it has {', '.join(sorted(guided.others))}" if guided.others else "it has no ReLU at all"
            raise InspectionError(
                f"Guided backpropagation is defined for networks whose only rectifiers are ReLUs; of this one, {met}.",
                hint="Integrated gradients and SmoothGrad take any activation.",
            )
        found.append(gradient_of(scores, some))
    return torch.cat(found)
