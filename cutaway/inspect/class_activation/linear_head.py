"""CAM, the original: for networks whose head is global average pooling and one linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.inspect.class_activation.passes import run_plainly, without_autocast
from cutaway.inspect.class_activation.targets import Question, Targets, targets
from cutaway.networks.target_layers import TargetLayer


def cam(
    network: nn.Module, inputs: Tensor, layers: Sequence[TargetLayer], question: Question
) -> tuple[list[Tensor], Tensor, Targets]:
    """Zhou et al., arXiv:1512.04150, equation 2: the sum over channels of the class's weight times the channel's map.

    The mean of the map over all positions is the class's logit without its bias. That the head is a mean and one
    linear layer is not believed but measured, on these very pictures.

    Raises:
        InspectionError: The logits are no linear layer's answer to the means of the layer's maps.
    """
    heads: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def note(module: nn.Linear, args: tuple[Any, ...], output: Tensor) -> None:
        heads.append((module, args[0], output))

    handles = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Linear)]
    try:
        outputs, logits = run_plainly(network, inputs, layers)
    finally:
        for handle in handles:
            handle.remove()
    asked = targets(question, logits)
    found = []
    for layer, output in zip(layers, outputs, strict=True):
        maps = layer.as_maps(output)
        weight = _head_of(maps, heads, logits, layer)
        weights = weight[asked.class_index]
        if asked.against is not None:
            weights = weights - weight[asked.against]
        precise = torch.promote_types(maps.dtype, torch.float32)
        with without_autocast(maps):
            found.append(torch.einsum("ntc,nchw->nthw", weights.to(precise), maps.to(precise)))
    return found, logits, asked


def _head_of(
    maps: Tensor, heads: Sequence[tuple[nn.Linear, Tensor, Tensor]], logits: Tensor, layer: TargetLayer
) -> Tensor:
    means = maps.mean((2, 3))
    tolerance = 1e-3 if maps.dtype.itemsize >= 4 else 1e-1
    for linear, given, answer in reversed(heads):
        if answer.shape != logits.shape or given.shape != means.shape or not torch.equal(answer, logits):
            continue
        if (given - means).abs().max() <= tolerance * means.abs().max():
            return linear.weight.detach()
    raise InspectionError(
        f"CAM needs logits that one linear layer makes of the means of {layer.name!r}'s maps, which is not so here.",
        hint="Use Grad-CAM or HiResCAM, which are the same on such a head and work on any other.",
    )
