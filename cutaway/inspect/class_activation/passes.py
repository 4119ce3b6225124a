"""Running a network from its input to its logits, and noting what the target layers return on the way.

The two passes here differ in one thing: whether autograd begins at the first target layer, or nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.hooks import find_module
from cutaway.networks.target_layers import TargetLayer


def run_with_graph(network: nn.Module, inputs: Tensor, layers: Sequence[TargetLayer]) -> tuple[list[Tensor], Tensor]:
    """The layers' outputs and the logits, with a graph from the first of these layers up and none below.

    Args:
        network: In evaluation mode, and called under `no_grad`.
        inputs: float [N, C, H, W].
        layers: Each is called once.

    Returns:
        Each layer's output as it returned it, and logits [N, K].
    """
    begun: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        torch.set_grad_enabled(True)
        # A later layer's output leads back to the first one's, so its graph is kept.
        kept = output.clone() if begun and output.requires_grad else output.detach().clone().requires_grad_()
        begun.append(kept)
        return kept

    # The next run, of another view or picture, is to begin without a graph again.
    with torch.no_grad():
        return _run(network, inputs, layers, keep)


def run_plainly(network: nn.Module, inputs: Tensor, layers: Sequence[TargetLayer]) -> tuple[list[Tensor], Tensor]:
    """The layers' outputs and the logits, without a graph."""
    return _run(network, inputs, layers, Tensor.clone)


def logits_of(network: nn.Module, inputs: Tensor) -> Tensor:
    """The network's logits [N, K].

    Raises:
        InspectionError: It returns something else.
    """
    output = network(inputs)
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor):
        raise InspectionError(
            f"A class activation map needs a network that returns logits, not a {type(output).__name__}.",
            hint="Wrap it in a module that returns the logits alone.",
        )
    if logits.dim() != 2 or len(logits) != len(inputs):
        raise InspectionError(
            f"A class activation map needs logits [N, K] for N = {len(inputs)} pictures, not {list(logits.shape)}.",
            hint="Wrap the network in a module that returns one row of logits per picture.",
        )
    return logits


def module_of(network: nn.Module, layer: TargetLayer) -> nn.Module:
    """The module that a target layer names.

    Raises:
        InspectionError: The network has none of that name.
    """
    module = find_module(network, layer.name)
    if module is None:
        raise InspectionError(
            f"The network has no layer {layer.name!r}.", hint="Was the target layer found in another network?"
        )
    return module


def without_autocast(values: Tensor) -> AbstractContextManager[Any]:
    """For sums over maps: under a person's `torch.autocast` they would be made, and come out, in half precision."""
    device = values.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _run(
    network: nn.Module, inputs: Tensor, layers: Sequence[TargetLayer], keep: Callable[[Tensor], Tensor]
) -> tuple[list[Tensor], Tensor]:
    kept: dict[str, Tensor] = {}

    def hook_of(layer: TargetLayer) -> Callable[[nn.Module, Any, Any], Tensor]:
        def note(module: nn.Module, args: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor) or layer.name in kept:
                raise InspectionError(
                    f"Layer {layer.name!r} returns no single tensor, or is called more than once.",
                    hint="Let `find_target_layer` choose or check the target layer.",
                )
            kept[layer.name] = keep(output)
            # A copy for the rest of the network, so that an in-place ReLU cannot write over what was noted.
            return kept[layer.name].clone()

        return note

    with ExitStack() as hooks:
        for layer in layers:
            handle = module_of(network, layer).register_forward_hook(hook_of(layer))
            hooks.callback(handle.remove)
        logits = logits_of(network, inputs)
    for layer in layers:
        if layer.name not in kept:
            raise InspectionError(f"Layer {layer.name!r} was not called.", hint="Choose a layer that is in use.")
    return [kept[layer.name] for layer in layers], logits
