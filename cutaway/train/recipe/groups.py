"""Parameter groups: what is decayed, and what learns at a rate of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from cutaway.networks.heads import Parts

# Of any dimension: a layer norm over maps has weights of three.
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
# The part of the network that a parameter belongs to, and what its rate is multiplied with.
Part = Callable[[str], tuple[str, float]]


def parameter_groups(
    network: nn.Module, weight_decay: float, part_of: Part = lambda _: ("network", 1.0)
) -> list[dict[str, Any]]:
    """A network's parameters in groups for a torch optimizer.

    Norms, biases and other vectors, such as the slopes of a PReLU, are not decayed: decay would only shrink the scale
    that they are there to give.

    Args:
        network: Each of its parameters gets into one group, frozen ones too.
        weight_decay: Of the parameters that are decayed.
        part_of: From a parameter's name to the part of the network that it belongs to, and the part's `lr_scale`.

    Returns:
        Groups with `name`, such as `head, decayed`, `lr_scale`, `weight_decay` and `params`, in the order in which
        their first parameters stand in the network, the decayed of a part first.
    """
    parts: dict[str, dict[bool, dict[str, Any]]] = {}
    for name, parameter, decayed in _decays(network):
        part, lr_scale = part_of(name)
        groups = parts.setdefault(part, {})
        said = f"{part}, decayed" if decayed else f"{part}, not decayed"
        new = {"name": said, "lr_scale": lr_scale, "weight_decay": weight_decay if decayed else 0.0, "params": []}
        groups.setdefault(decayed, new)["params"].append(parameter)
    return [groups[decayed] for groups in parts.values() for decayed in (True, False) if decayed in groups]


def decayed_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that decay and penalties are for, each once."""
    return [parameter for _, parameter, decayed in _decays(network) if decayed]


def scaled_by_depth(parts: Parts, layer_decay: float, backbone: float = 1.0) -> Part:
    """Discriminative rates: the head learns at the whole rate, each stage below at `layer_decay` of the one above.

    All of the backbone's are multiplied with `backbone` besides.

    Howard & Ruder, "Universal Language Model Fine-tuning for Text Classification", arXiv:1801.06146, section 3.2.
    """

    def part_of(name: str) -> tuple[str, float]:
        stage = parts.stage_of(name)
        if stage is None:
            return "head", 1.0
        return f"stage {stage}", backbone * layer_decay ** (len(parts.stages) - stage)

    return part_of


def _decays(network: nn.Module) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """Each parameter once, with its name and whether it is decayed."""
    seen = set()
    for path, module in network.named_modules():
        for name, parameter in module.named_parameters(prefix=path, recurse=False):
            if parameter not in seen:
                seen.add(parameter)
                yield name, parameter, parameter.dim() > 1 and not isinstance(module, _NORMS)
