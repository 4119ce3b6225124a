"""torch's optimizers by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from cutaway.networks.heads import Parts
from cutaway.settings import TrainSettings
from cutaway.train.recipe.groups import parameter_groups, scaled_by_depth

# Where torch has the whole update of all parameters as one kernel; elsewhere one operation goes over all of them.
_FUSED = {
    "adagrad": ("cpu", "cuda"),
    "adam": ("cpu", "cuda", "mps"),
    "adamw": ("cpu", "cuda", "mps"),
    "sgd": ("cpu", "cuda", "mps"),
}


def make_optimizer(network: nn.Module, settings: TrainSettings, parts: Parts | None = None) -> torch.optim.Optimizer:
    """The optimizer that the settings name, in its fastest form for the network's device.

    Args:
        network: Where it will stay: its device and memory format are decided.
        settings: The recipe.
        parts: The network's stages, where they learn at rates or from epochs of their own.
    """
    if parts is not None:
        # Also where all rates are the same: fused SGD cannot take a first and a later step in one group, as a stage
        # that was frozen until now and the head would.
        scales = scaled_by_depth(parts, settings.layer_decay, settings.backbone_lr_scale)
        groups = parameter_groups(network, settings.weight_decay, scales)
    elif settings.layer_decay == settings.backbone_lr_scale == 1:
        groups = parameter_groups(network, settings.weight_decay)
    else:
        raise ValueError("rates by depth need the network's parts")
    device = next(network.parameters()).device.type
    form: dict[str, Any] = {"fused" if device in _FUSED.get(settings.optimizer, ()) else "foreach": True}
    if settings.eps is not None and settings.optimizer != "sgd":
        form["eps"] = settings.eps
    lr, betas, momentum = settings.lr, settings.betas, settings.momentum
    match settings.optimizer:
        case "adadelta":
            return torch.optim.Adadelta(groups, lr, rho=settings.rho, **form)
        case "adagrad":
            return torch.optim.Adagrad(groups, lr, **form)
        case "adam":
            return torch.optim.Adam(groups, lr, betas=betas, **form)
        case "adamax":
            return torch.optim.Adamax(groups, lr, betas=betas, **form)
        case "adamw":
            return torch.optim.AdamW(groups, lr, betas=betas, **form)
        case "nadam":
            return torch.optim.NAdam(groups, lr, betas=betas, **form)
        case "radam":
            return torch.optim.RAdam(groups, lr, betas=betas, **form)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr, alpha=settings.alpha, momentum=momentum, **form)
        case "sgd":
            return torch.optim.SGD(groups, lr, momentum=momentum, nesterov=settings.nesterov, **form)


def set_momentum(optimizer: torch.optim.Optimizer, momentum: float) -> None:
    """Sets the momentum, or the first beta, of optimizers that were made with one."""
    for group in optimizer.param_groups:
        if "betas" in group:
            group["betas"] = (momentum, *group["betas"][1:])
        elif optimizer.defaults.get("momentum"):
            group["momentum"] = momentum
