"""Which part of a network learns in an epoch: a function of the settings and the epoch, so that nothing is kept."""

from __future__ import annotations

from torch import nn

from cutaway.networks.heads import Parts
from cutaway.settings import TrainSettings


def freeze(network: nn.Module, parts: Parts, settings: TrainSettings, epoch: int) -> None:
    """Lets the parts learn that are due in an epoch, and no others.

    A frozen parameter has no gradient, so that neither the optimizer nor its weight decay moves it. A frozen norm that
    keeps statistics of its batches is put into evaluation mode, so that these don't move either. What was
    frozen by whoever built the network stays so.

    Args:
        network: In training mode; changed in place.
        parts: Of the network.
        settings: `freeze_backbone` and `unfreeze`.
        epoch: 0 for the first.
    """
    frozen = num_frozen(settings, epoch, len(parts.stages))

    def is_frozen(name: str) -> bool:
        stage = parts.stage_of(name)
        return stage is not None and stage < frozen

    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in parts.fixed and not is_frozen(name))
    for name, module in network.named_modules():
        if hasattr(module, "running_mean") and is_frozen(name):
            module.eval()


def num_frozen(settings: TrainSettings, epoch: int, num_stages: int) -> int:
    """How many stages, from the input on, learn nothing in an epoch.

    All of them in the first `freeze_backbone` epochs; then none, or with `gradual` one less in each epoch: the stage
    next to the head learns first.
    """
    if epoch < settings.freeze_backbone:
        return num_stages
    if settings.unfreeze == "at-once":
        return 0
    return max(0, num_stages - 1 - (epoch - settings.freeze_backbone))
