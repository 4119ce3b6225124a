"""DeepLIFT: differences of activations from those at a baseline, in the place of gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cutaway.inspect.attribution.baselines import Baseline, BaselineKind, make_baseline
from cutaway.inspect.attribution.result import Attribution
from cutaway.inspect.attribution.rules import Recording, Rescaling
from cutaway.inspect.attribution.subject import AT_A_TIME, ClassIndex, gradient_of, prepared
from cutaway.preprocessing import Preprocessing


def deep_lift(
    network: nn.Module,
    inputs: Tensor,
    class_index: ClassIndex = -1,
    *,
    baseline: BaselineKind | Tensor | Baseline = "mean",
    preprocessing: Preprocessing | None = None,
    at_a_time: int = AT_A_TIME,
) -> Attribution:
    """DeepLIFT by its rescale rule (Shrikumar et al., arXiv:1704.02685), for modules and functions alike.

    The baseline and the picture each take one forward pass. Activations, maxima and products share their differences
    out; what else is not linear (softmax within attention, layer norm) passes its plain gradient. The attributions
    should sum up to the logit at the picture less the logit at the baseline; `gap` tells how far they are from it.

    Args:
        network: Any classifier that returns logits [N, K].
        inputs: float [N, C, H, W], preprocessed.
        class_index: The class to explain, one for all pictures or one for each; -1 is a picture's top class.
        baseline: What stands for nothing, as `make_baseline` takes it.
        preprocessing: Of the pictures, for a black or white baseline.
        at_a_time: The most pictures that go through the network together.

    Raises:
        InspectionError: Gradients are impossible here, the network takes different ways for baseline and picture, or
            there is no such class.
    """
    with prepared(network, inputs, class_index, purpose="DeepLIFT", at_a_time=at_a_time) as subject:
        nothing = make_baseline(subject.inputs, baseline, preprocessing)
        found, differences = [], []
        for part, some, classes in subject.parts():
            # With a graph too, since what has none is a constant to the rules.
            with Recording() as recorded:
                then = subject.scores(nothing.values[part].detach().requires_grad_(), classes).detach()
            with Rescaling(recorded):
                now = subject.scores(some, classes)
            found.append(gradient_of(now, some) * (some.detach() - nothing.values[part]))
            differences.append(now.detach() - then)
        return Attribution(
            "deep-lift",
            torch.cat(found),
            subject.logits,
            subject.classes,
            "sum",
            nothing.name,
            torch.cat(differences),
            alone=subject.alone,
        )
