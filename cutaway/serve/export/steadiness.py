"""Whether a network answers a picture the same each time and in any company: with another, no file can agree."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from cutaway.errors import ExportError

# Of the largest logit; rounding stays below it, which differs between batches of different sizes.
_NOTICEABLE = 1e-3


def unsteadiness(network: nn.Module, inputs: Tensor) -> ExportError | None:
    """What is wrong with a network whose answers change although the picture doesn't.

    It is asked in float64 where it can compute in it: what float32 leaves open is no fault of this kind.

    Args:
        network: In evaluation mode.
        inputs: float32 [N, C, h, w], at least two pictures that differ.

    Returns:
        The error; None where answers depend on nothing but the picture.
    """
    try:
        together, again, alone = _answers(copy.deepcopy(network).double(), inputs.double())
    except Exception:  # noqa: BLE001 - whatever a person's own network raises, which may insist on float32
        together, again, alone = _answers(network, inputs)
    training = [name or type(network).__name__ for name, module in network.named_modules() if module.training]
    stuck = f"{training[0]} stays in training mode after eval(). " if training else ""
    if _differ(together, again):
        return ExportError(
            "The network answers the same picture differently each time, also in evaluation mode.",
            hint=f"{stuck}Look for dropout that is always on, such as dropout(x) without training=self.training.",
        )
    if _differ(together, alone):
        return ExportError(
            "The network's answer to a picture depends on the others of its batch, also in evaluation mode.",
            hint=f"{stuck}Look for what is computed over the batch, such as x.mean(0) or x.max().",
        )
    return None


def _answers(network: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    with torch.no_grad():
        return network(inputs), network(inputs), torch.cat([network(one[None]) for one in inputs])


def _differ(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() > _NOTICEABLE * one.abs().max())
