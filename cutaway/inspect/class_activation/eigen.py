"""Eigen-CAM: what a layer's maps have most in common, whatever the class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.inspect.class_activation.passes import run_plainly, without_autocast
from cutaway.inspect.class_activation.targets import Question, Targets, targets
from cutaway.networks.target_layers import TargetLayer


def eigen_cam(
    network: nn.Module, inputs: Tensor, layers: Sequence[TargetLayer], question: Question
) -> tuple[list[Tensor], Tensor, Targets]:
    """Muhammad and Yeasin, arXiv:2008.00299, equation 4: the maps projected on their first principal direction.

    With O the maps as a matrix [h * w, C] and O = U S V^T, the map is O times V's first column. As in the paper the
    maps are not centred. A singular vector has no sign of its own: the one with a positive sum is taken, which after
    a ReLU makes the map positive everywhere. The class plays no part.
    """
    outputs, logits = run_plainly(network, inputs, layers)
    asked = targets(question, logits)
    found = []
    for layer, output in zip(layers, outputs, strict=True):
        maps = layer.as_maps(output).to(torch.promote_types(output.dtype, torch.float32))
        if not maps.isfinite().all():
            raise InspectionError(
                f"Layer {layer.name!r} returns values that are not finite.",
                hint="Have the network's weights diverged in training?",
            )
        matrix = maps.flatten(2).transpose(1, 2)
        with without_autocast(matrix):
            direction = torch.linalg.svd(matrix, full_matrices=False).Vh[:, 0]
            projected = torch.einsum("npc,nc->np", matrix, direction)
        projected = torch.where(projected.sum(1, keepdim=True) < 0, -projected, projected)
        found.append(projected.view(len(maps), 1, *maps.shape[2:]).expand(-1, len(asked), -1, -1).clone())
    return found, logits, asked
