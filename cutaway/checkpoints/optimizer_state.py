"""An optimizer's state by the names of its parameters, so that it survives any change of their order."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from cutaway.errors import BundleError

# State of one number a parameter, whatever the parameter's shape; the second is NAdam's.
_NUMBERS = ("step", "mu_product")


def named_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Takes an optimizer's state apart.

    Returns:
        The tensors under `parameter/entry` (parameter names hold no slash), and the parameter groups as plain values
        with `params` as names.
    """
    names = {parameter: name for name, parameter in network.named_parameters()}
    tensors: dict[str, Tensor] = {}
    groups: list[dict[str, JsonValue]] = []
    for group in optimizer.param_groups:
        plain = {key: _plain(value) for key, value in group.items() if key != "params"}
        groups.append(plain | {"params": [names[parameter] for parameter in group["params"]]})
        for parameter in group["params"]:
            for key, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"{names[parameter]}/{key}"] = value
                elif value is not None:
                    raise TypeError(f"the optimizer keeps {key} as {type(value).__name__}, which cannot be stored")
    return tensors, groups


def load_named_state(
    network: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """Puts the state that `named_state` took back into a new optimizer over the same network.

    State of a parameter's own shape takes on the parameter's memory format: fused optimizers walk raw memory and would
    compute wrong weights in silence where the two differ.

    Raises:
        BundleError: The groups hold other parameters than the optimizer's.
    """
    parameters = dict(network.named_parameters())
    index = {name: position for position, name in enumerate(_names_in_order(network, optimizer))}
    if [group.get("params") for group in groups] != [_names(network, group) for group in optimizer.param_groups]:
        raise BundleError("The bundle's optimizer holds other parameters than this network has.")
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, entry = key.rpartition("/")
        if name not in index:
            raise BundleError(f"The bundle's optimizer has state for '{name}', which this network has not.")
        # Fused optimizers walk the state's raw memory as far as the parameter reaches.
        wanted = torch.Size() if entry in _NUMBERS else parameters[name].shape
        if tensor.shape != wanted or not tensor.is_floating_point():
            raise BundleError(
                f"The bundle's optimizer state '{key}' is {tensor.dtype} {list(tensor.shape)}; "
                f"it must be floating point {list(wanted)}."
            )
        state.setdefault(index[name], {})[entry] = tensor
    # The hyper-parameters are those of the settings, which were compared before.
    plain_groups = [
        {key: value for key, value in own.items() if key != "params"} | {"params": [index[n] for n in group["params"]]}
        for own, group in zip(optimizer.param_groups, groups, strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": plain_groups})
    for parameter in parameters.values():
        entries = optimizer.state.get(parameter, {})
        for key, value in entries.items():
            if not isinstance(value, Tensor):
                continue
            if key == "mu_product":
                # torch moves it beside the parameter, where NAdam would wait for the device to read it at every step.
                entries[key] = value.cpu()
            elif value.shape == parameter.shape and value.dim() > 0:
                entries[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _names(network: nn.Module, group: dict[str, Any]) -> list[str]:
    names = {parameter: name for name, parameter in network.named_parameters()}
    return [names[parameter] for parameter in group["params"]]


def _names_in_order(network: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    return [name for group in optimizer.param_groups for name in _names(network, group)]


def _plain(value: object) -> JsonValue:
    if isinstance(value, Tensor):
        return float(value.item())
    return list(value) if isinstance(value, tuple) else value  # type: ignore[return-value]
