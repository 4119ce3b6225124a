"""Attribution along the straight path from a baseline to the picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.inspect.attribution.baselines import Baseline, BaselineKind, make_baseline
from cutaway.inspect.attribution.result import Attribution
from cutaway.inspect.attribution.subject import AT_A_TIME, ClassIndex, finite, gradient_of, prepared
from cutaway.preprocessing import Preprocessing

STEPS = 50


def integrated_gradients(
    network: nn.Module,
    inputs: Tensor,
    class_index: ClassIndex = -1,
    *,
    baseline: BaselineKind | Tensor | Baseline = "mean",
    steps: int = STEPS,
    preprocessing: Preprocessing | None = None,
    at_a_time: int = AT_A_TIME,
) -> Attribution:
    """Integrated gradients (Sundararajan et al., arXiv:1703.01365, equation 1), by Gauss and Legendre's quadrature.

    The attributions should sum up to the logit at the picture less the logit at the baseline; `gap` tells how far
    they are from it, and more steps bring them closer.

    Args:
        network: Any classifier that returns logits [N, K].
        inputs: float [N, C, H, W], preprocessed.
        class_index: The class to explain, one for all pictures or one for each; -1 is a picture's top class.
        baseline: What stands for nothing, as `make_baseline` takes it.
        steps: Points of the path at which the gradient is taken.
        preprocessing: Of the pictures, for a black or white baseline.
        at_a_time: The most pictures that go through the network together, the points of the path included.

    Raises:
        InspectionError: Gradients are impossible here, there is no such class, or an argument is out of range.

    Example:
        >>> found = integrated_gradients(network, images, baseline="blur")
        >>> found.heatmap.shape, found.gap
    """
    if steps < 1:
        raise InspectionError(f"Integrated gradients take at least one step, not {steps}.", hint="50 are usual.")
    from captum.attr import IntegratedGradients

    with prepared(network, inputs, class_index, purpose="Integrated gradients", at_a_time=at_a_time) as subject:
        nothing = make_baseline(subject.inputs, baseline, preprocessing)
        method = IntegratedGradients(subject.logits_at)
        found = []
        for part, some, classes in subject.parts():
            gradient_of(subject.scores(some[:1], classes[:1]), some)  # refuses in words what captum would not
            attributions = method.attribute(
                some,
                baselines=nothing.values[part],
                target=classes,
                n_steps=steps,
                internal_batch_size=max(subject.at_a_time, len(some)),
            )
            found.append(finite(attributions.detach()).to(subject.inputs.dtype))
        here = subject.logits.gather(1, subject.classes[:, None])[:, 0]
        difference = here - subject.scores_in_parts(nothing.values, subject.classes)
        return Attribution(
            "integrated-gradients",
            torch.cat(found),
            subject.logits,
            subject.classes,
            "sum",
            nothing.name,
            difference,
            alone=subject.alone,
        )
