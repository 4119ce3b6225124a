"""What a network computes on the way: feature maps of pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError, NetworkError
from cutaway.hooks import capture, named_modules, untouched
from cutaway.networks.target_layers import TargetLayer, find_target_layer, spatial_layers, stage_layers

Rank = Literal["activation", "variance"]


@dataclass(frozen=True)
class FeatureMaps:
    """One layer's maps of a few pictures.

    Attributes:
        layer: Where they were read.
        maps: float32 [N, C, h, w], on the CPU.
    """

    layer: TargetLayer
    maps: Tensor

    @property
    def strength(self) -> Tensor:
        """How active each channel is on each picture, the mean of its absolute values: float32 [N, C]."""
        return self.maps.abs().mean((2, 3))

    @property
    def variance(self) -> Tensor:
        """How much each channel varies over the positions of each picture: float32 [N, C]."""
        return self.maps.var((2, 3), correction=0)

    def strongest(self, picture: int, limit: int, *, rank: Rank = "activation") -> list[int]:
        """The most active channels on one picture, or the most varied, the first ones first; NaN comes last."""
        by = self.strength if rank == "activation" else self.variance
        order = by[picture].nan_to_num(-1.0).argsort(descending=True, stable=True)
        return [int(channel) for channel in order[:limit]]

    @property
    def silent(self) -> list[int]:
        """Channels that are zero everywhere on all of these pictures; on a whole data set they would be dead."""
        return [int(channel) for channel in (self.maps.abs().amax((0, 2, 3)) == 0).nonzero()[:, 0]]


def feature_maps(
    network: nn.Module, inputs: Tensor, layers: str | Iterable[str] | None = None
) -> tuple[FeatureMaps, ...]:
    """Reads the maps that layers make of pictures.

    The network runs in evaluation mode and is left as it was; in-place operations after a layer change nothing.

    Args:
        network: Any network of pictures.
        inputs: float [N, C, H, W], preprocessed.
        layers: Names of layers that return maps, or patterns such as `layer1.*`; or of operations that return
            [N, C, h, w], such as `layer1.0:add#0` or `layer1.*:add#*`; for each size of map the last layer if None.

    Returns:
        One entry per layer, in the order in which the layers end.

    Raises:
        NetworkError: A layer is missing or returns no maps.
        InspectionError: The inputs are no batch, or the network has no layer with maps.

    Example:
        >>> for found in feature_maps(network, images, ["layer1", "layer4"]):
        ...     print(found.layer.name, found.maps.shape, found.strongest(picture=0, limit=4))
    """
    if not isinstance(inputs, Tensor):
        raise InspectionError(
            f"Feature maps need a tensor of pictures, not a {type(inputs).__name__}.",
            hint="Make one of an array by `torch.from_numpy`.",
        )
    if inputs.dim() != 4 or len(inputs) == 0:
        raise InspectionError(
            f"Feature maps need a batch of pictures [N, C, H, W], not {list(inputs.shape)}.",
            hint="Put one picture into a batch with `picture[None]`.",
        )
    shape = (int(inputs.shape[1]), int(inputs.shape[2]), int(inputs.shape[3]))
    if layers is None:
        targets = stage_layers(network, shape)
    else:
        names = [layers] if isinstance(layers, str) else list(dict.fromkeys(layers))
        targets = tuple(target for name in names for target in _named(network, shape, name))
    if not targets:
        raise InspectionError(
            f"{type(network).__name__} has no layer whose output is a map of the picture.",
            hint="A network of linear layers alone has none.",
        )
    parameter = next(network.parameters(), None)
    if parameter is not None:
        inputs = inputs.to(parameter.device)
    with untouched(network), torch.no_grad():
        network.eval()
        with capture(network, [target.name for target in targets]) as captured:
            network(inputs)
    by_name = {target.name: target for target in targets}
    found = []
    for call in captured.all_calls:
        # An operation goes by its own name, whichever pattern it was found by.
        target = by_name.get(call.layer, TargetLayer(call.layer, "nchw"))
        if target.layout == "nchw" and call.tensor.dim() != 4:
            raise NetworkError(f"{call.layer!r} returns no maps [N, C, h, w] but {list(call.tensor.shape)}.")
        found.append(FeatureMaps(target, target.as_maps(call.tensor).float().cpu().contiguous()))
    return tuple(found)


def _named(network: nn.Module, shape: tuple[int, int, int], name: str) -> tuple[TargetLayer, ...]:
    """The layer of that name, all layers that return maps and match a pattern, or the operations meant."""
    if ":" in name and name not in named_modules(network, shared=True):
        return (TargetLayer(name, "nchw"),)
    if not any(sign in name for sign in "*?["):
        return (find_target_layer(network, shape, name),)
    known = spatial_layers(network, shape)
    found = tuple(target for target in known if fnmatchcase(target.name, name))
    if not found:
        raise InspectionError(
            f"No layer that returns maps matches '{name}'.",
            hint=f"Layers: {', '.join(target.name for target in known)}.",
        )
    return found
