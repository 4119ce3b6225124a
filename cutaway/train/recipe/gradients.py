"""What happens to gradients between the backward pass and the update: penalties, then clipping."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cutaway.settings import TrainSettings
from cutaway.train.recipe.groups import decayed_parameters


class GradientRules:
    """Changes gradients in place. Each rule is a few operations over all parameters at once, and none waits for them.

    With `l1` and `l2`, the gradient of `l1 * sum |w| + l2 * sum w^2` is added, over what is decayed too: not norms and
    biases. Then all gradients together, as one vector, are made no longer than `clip_norm`, and each of their entries
    no larger than `clip_value`; 0 leaves them as they are.

    Args:
        network: Whose gradients; parameters that have none are left alone.
        settings: Name the rules.
    """

    def __init__(self, network: nn.Module, settings: TrainSettings) -> None:
        self._penalised = decayed_parameters(network) if settings.l1 or settings.l2 else []
        self._clipped = list(network.parameters()) if settings.clip_norm or settings.clip_value else []
        self._settings = settings

    @torch.no_grad()
    def apply(self) -> None:
        """Changes the gradients that are there."""
        if self._penalised:
            there = [(weight.data, weight.grad) for weight in self._penalised if weight.grad is not None]
            self._penalise([weight for weight, _ in there], [gradient for _, gradient in there])
        if self._clipped:
            self._clip([parameter.grad for parameter in self._clipped if parameter.grad is not None])

    def _penalise(self, weights: list[Tensor], gradients: list[Tensor]) -> None:
        # As gradients in place of terms of the loss: the same step, and no graph of its own.
        if self._settings.l1 and weights:
            torch._foreach_add_(gradients, torch._foreach_sign(weights), alpha=self._settings.l1)
        if self._settings.l2 and weights:
            torch._foreach_add_(gradients, weights, alpha=2 * self._settings.l2)

    def _clip(self, gradients: list[Tensor]) -> None:
        longest, largest = self._settings.clip_norm, self._settings.clip_value
        if longest and gradients:
            # As torch.nn.utils.clip_grad_norm_, which on the CPU goes from parameter to parameter.
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            torch._foreach_mul_(gradients, (longest / (norm + 1e-6)).clamp(max=1.0))
        if largest and gradients:
            torch._foreach_clamp_min_(gradients, -largest)
            torch._foreach_clamp_max_(gradients, largest)
