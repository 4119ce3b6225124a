"""How much training changes weights: the size of updates against the weights themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cutaway.errors import InspectionError

_Undo = Callable[[Tensor, Mapping[str, Tensor], Mapping[str, Any]], Tensor]


@dataclass(frozen=True)
class UpdateRatio:
    """The change of one parameter between two moments of training.

    Attributes:
        name: The parameter.
        weight_norm: L2 norm before the change.
        update_norm: L2 norm of the change.
        steps: Steps of the optimizer between the two.
    """

    name: str
    weight_norm: float
    update_norm: float
    steps: int

    @property
    def ratio(self) -> float:
        """||w_t - w_s|| / ||w_s||; infinite for a change from zero, 0 for none."""
        if self.update_norm == 0:
            return 0.0
        return self.update_norm / self.weight_norm if self.weight_norm else math.inf


def update_ratios(before: Mapping[str, Tensor], after: Mapping[str, Tensor], *, steps: int) -> tuple[UpdateRatio, ...]:
    """Compares parameters at two moments; those that only one of them has, or in another shape, are left out.

    Over several steps this is the distance from beginning to end: less than the sum of the steps, where they turn.

    Args:
        before: By name.
        after: By name.
        steps: Steps of the optimizer between the two.
    """
    found = []
    for name, new in after.items():
        old = before.get(name)
        if old is None or old.shape != new.shape:
            continue
        old, new = old.detach().double(), new.detach().double()
        found.append(UpdateRatio(name, float(old.norm()), float((new - old).norm()), steps))
    return tuple(found)


def last_step_ratios(
    optimizer: str, weights: Mapping[str, Tensor], state: Mapping[str, Tensor], groups: Sequence[Mapping[str, Any]]
) -> tuple[UpdateRatio, ...]:
    """The very last step of an optimizer, computed back from the state that it left.

    This can be done where the state alone says what the step was: of adam, adamw and adamax, radam, of sgd with plain
    momentum, and of rmsprop with momentum. Other optimizers need the gradient, which nobody keeps.

    Args:
        optimizer: Its name, as in the settings.
        weights: Parameters after the step, by name and in the order of the answer.
        state: Its tensors under `parameter/entry`.
        groups: Its parameter groups, with `params` as names and the learning rate of that step.

    Raises:
        InspectionError: The step cannot be computed back.
    """
    entries: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        name, _, entry = key.rpartition("/")
        entries.setdefault(name, {})[entry] = value.double()
    found: dict[str, UpdateRatio] = {}
    for group in groups:
        undo = _undo(optimizer, group)
        for name in group["params"]:
            # A parameter that was not in the last step, such as one that was frozen, has no state.
            if name in entries and name in weights:
                after = weights[name].detach().double()
                before = undo(after, entries[name], group)
                found[name] = UpdateRatio(name, float(before.norm()), float((after - before).norm()), 1)
    return tuple(found[name] for name in weights if name in found)


def _undo(optimizer: str, group: Mapping[str, Any]) -> _Undo:
    if group.get("maximize") or group.get("amsgrad"):
        raise _not_kept(optimizer)
    if optimizer == "sgd" and (not group["momentum"] or group["nesterov"]):
        raise _not_kept(f"sgd {'with Nesterov’s momentum' if group['nesterov'] else 'without momentum'}")
    if optimizer == "rmsprop" and not group["momentum"]:
        raise _not_kept("rmsprop without momentum")
    undos = {"sgd": _before_momentum, "rmsprop": _before_momentum, "adam": _before_adam, "adamw": _before_adam}
    undos |= {"adamax": _before_adamax, "radam": _before_radam}
    if optimizer not in undos:
        raise _not_kept(optimizer)
    return undos[optimizer]


def _before_momentum(after: Tensor, state: Mapping[str, Tensor], group: Mapping[str, Any]) -> Tensor:
    return after + state["momentum_buffer"] * float(group["lr"])


def _before_adam(after: Tensor, state: Mapping[str, Tensor], group: Mapping[str, Any]) -> Tensor:
    """Undoes Kingma and Ba, algorithm 1, and the decoupled decay of Loshchilov and Hutter, algorithm 2."""
    first, second = group["betas"]
    steps = float(state["step"])
    scale = (state["exp_avg_sq"] / (1 - second**steps)).sqrt() + group["eps"]
    moved = state["exp_avg"] * group["lr"] / (1 - first**steps) / scale
    return _undecayed(after + moved, group)


def _before_adamax(after: Tensor, state: Mapping[str, Tensor], group: Mapping[str, Any]) -> Tensor:
    first, _ = group["betas"]
    rate = float(group["lr"] / (1 - first ** float(state["step"])))
    return after + state["exp_avg"] * rate / state["exp_inf"]


def _before_radam(after: Tensor, state: Mapping[str, Tensor], group: Mapping[str, Any]) -> Tensor:
    """Undoes Liu et al., "On the variance of the adaptive learning rate and beyond", algorithm 2, as torch has it."""
    first, second = group["betas"]
    steps = float(state["step"])
    moved = state["exp_avg"] / (1 - first**steps)
    longest = 2 / (1 - second) - 1
    length = longest - 2 * steps * second**steps / (1 - second**steps)
    if length > 5:
        rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        adapted = math.sqrt(1 - second**steps) / (state["exp_avg_sq"].sqrt() + group["eps"])
        moved = moved * math.sqrt(rectified) * adapted
    return _undecayed(after + moved * group["lr"], group)


def _undecayed(stepped: Tensor, group: Mapping[str, Any]) -> Tensor:
    if group.get("decoupled_weight_decay"):
        return stepped / (1 - float(group["lr"] * group["weight_decay"]))
    return stepped


def _not_kept(optimizer: str) -> InspectionError:
    return InspectionError(
        f"The last step of {optimizer} cannot be told from the state that it keeps.",
        hint="Updates between two bundles can: keep more of them with --keep-last or --save-every.",
    )
