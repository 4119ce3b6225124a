"""The parts of a recipe that a step uses, put together once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.settings import TrainSettings
from cutaway.train.recipe.averaging import Average
from cutaway.train.recipe.compiling import compiled
from cutaway.train.recipe.gradients import GradientRules
from cutaway.train.recipe.precision import make_scaler


@dataclass(frozen=True)
class Recipe:
    """How a step of one network goes.

    Attributes:
        forward: From inputs to what the network returns.
        criterion: From logits and targets to the mean loss of a batch.
        scaler: Of float16's gradients.
        gradients: What happens to gradients before the update.
        average: Follows the weights.
    """

    forward: Callable[[Tensor], Any]
    criterion: Callable[[Tensor, Tensor], Tensor]
    scaler: torch.amp.GradScaler | None
    gradients: GradientRules
    average: Average | None

    def backward(self, loss: Tensor) -> None:
        """Adds a loss's gradients to those that are there."""
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]

    def update(self, optimizer: torch.optim.Optimizer, steps: int) -> None:
        """Makes the step for which the gradients are there; `steps` counts it.

        Where a gradient in float16 is no number, the scaler leaves the step out, and tries smaller scales from then on.
        """
        if self.scaler is None:
            self.gradients.apply()
            optimizer.step()
        else:
            self.scaler.unscale_(optimizer)
            self.gradients.apply()
            self.scaler.step(optimizer)
            self.scaler.update()
        if self.average is not None:
            self.average.update(steps)


def assemble(network: nn.Module, settings: TrainSettings, criterion: Callable[[Tensor, Tensor], Tensor]) -> Recipe:
    """The recipe that the settings name.

    Args:
        network: What is trained; its device and memory format are decided.
        settings: The recipe.
        criterion: From logits and targets to the mean loss of a batch.

    Raises:
        SettingsError: The recipe doesn't fit the device.
    """
    device = next(network.parameters()).device
    return Recipe(
        forward=compiled(network) if settings.compile else network,
        criterion=criterion,
        scaler=make_scaler(settings, device),
        gradients=GradientRules(network, settings),
        average=Average(network, settings.ema_decay) if settings.ema_decay else None,
    )
