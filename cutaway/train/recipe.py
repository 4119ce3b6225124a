"""The optimizer and its learning rate, which is a function of the step and so needs no state."""

from __future__ import annotations

import math

import torch
from torch import nn

from cutaway.settings import TrainSettings


def make_optimizer(network: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimizer by name, in torch's fused form. Norms and biases are not decayed."""
    decayed = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in network.parameters() if parameter.dim() <= 1]
    groups = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((decayed, settings.weight_decay), (others, 0.0))
        if parameters
    ]
    match settings.optimizer:
        case "adam":
            return torch.optim.Adam(groups, lr=settings.lr, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=settings.lr, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, fused=True)


def learning_rate(settings: TrainSettings, step: int, total_steps: int) -> float:
    """The rate of the step after `step` whole ones.

    Rises linearly over the warm-up; then stays, or falls along half a cosine to zero at the end of the run
    (Loshchilov & Hutter, arXiv:1608.03983, equation 5, without restarts).
    """
    warmup = settings.warmup_steps
    if settings.schedule == "cosine":
        warmup = min(warmup, total_steps // 10)
    if step < warmup:
        return settings.lr * (step + 1) / (warmup + 1)
    if settings.schedule == "constant":
        return settings.lr
    done = (step - warmup) / max(1, total_steps - warmup)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * done))
