"""The methods that need the score's gradient at the target layer: one forward pass, and the way back to the layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.inspect.class_activation.gradient_formulas import Formula, map_by
from cutaway.inspect.class_activation.passes import run_with_graph, without_autocast
from cutaway.inspect.class_activation.targets import Question, Targets, targets
from cutaway.networks.target_layers import TargetLayer


def by_gradient(
    formula: Formula, network: nn.Module, inputs: Tensor, layers: Sequence[TargetLayer], question: Question
) -> tuple[list[Tensor], Tensor, Targets]:
    """One forward pass, and for each target one way back from its score to the layers.

    Returns:
        Each layer's map before the last ReLU [N, T, h, w], logits [N, K], and the targets.
    """
    outputs, logits = run_with_graph(network, inputs, layers)
    answers = logits.detach()
    asked = targets(question, answers)
    maps = [_precise(layer.as_maps(output.detach())) for layer, output in zip(layers, outputs, strict=True)]
    found: list[list[Tensor]] = [[] for _ in layers]
    for number in range(len(asked)):
        # Samples don't mix in evaluation mode, so one way back gives every sample's own gradient.
        start = asked.gradient_of_score(number, answers)
        gradients = _gradients(logits, start, outputs, layers, is_last=number == len(asked) - 1)
        for index, layer in enumerate(layers):
            with without_autocast(maps[index]):
                found[index].append(map_by(formula, maps[index], _precise(layer.as_maps(gradients[index]))))
    return [torch.stack(each, 1) for each in found], answers, asked


def _gradients(
    logits: Tensor, start: Tensor, outputs: Sequence[Tensor], layers: Sequence[TargetLayer], *, is_last: bool
) -> Sequence[Tensor]:
    gradients: Sequence[Tensor | None] = [None] * len(layers)
    if logits.requires_grad:
        gradients = torch.autograd.grad(logits, outputs, start, retain_graph=not is_last, allow_unused=True)
    found = []
    for layer, gradient in zip(layers, gradients, strict=True):
        if gradient is None:
            raise InspectionError(
                f"The logits do not depend on layer {layer.name!r}, or the network cuts off gradients.",
                hint="Choose a layer on the way to the logits; look for `detach` and `no_grad` in the forward pass.",
            )
        found.append(gradient)
    return found


def _precise(values: Tensor) -> Tensor:
    """At least float32: sums over half-precision maps would lose what the map is made of."""
    return values.float() if values.dtype.itemsize < 4 else values
