"""Every method that makes heat-maps, class activation maps and attribution alike, by one list of names."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.inspect import attribution, class_activation
from cutaway.inspect.attribution.baselines import BaselineKind
from cutaway.inspect.attribution.subject import AT_A_TIME
from cutaway.inspect.faithfulness.randomisation import ExplainNetwork
from cutaway.networks.target_layers import TargetLayer, find_target_layer
from cutaway.preprocessing import Preprocessing
from cutaway.settings.near_names import near_names

HEATMAP_METHODS: tuple[str, ...] = (*class_activation.METHODS, *attribution.METHODS)


def explainer(
    method: str,
    *,
    baseline: BaselineKind = "mean",
    preprocessing: Preprocessing | None = None,
    target_layer: TargetLayer | str | None = None,
    seed: int = 0,
    at_a_time: int = AT_A_TIME,
) -> ExplainNetwork:
    """What makes heat-maps [N, h, w] of a network's pictures for classes int64 [N], by a method's name.

    Args:
        method: One of `HEATMAP_METHODS`.
        baseline: What stands for nothing, for the methods that compare with it.
        preprocessing: Of the pictures, for a black or white baseline.
        target_layer: Where class activation maps are read; found by default.
        seed: Of whatever is random.
        at_a_time: The most pictures that go through the network together.

    Raises:
        InspectionError: There is no such method.
    """
    if method in attribution.METHODS:

        def attributed(network: nn.Module, pictures: Tensor, classes: Tensor) -> Tensor:
            return attribution.attribute(
                network,
                pictures,
                method,
                classes,
                baseline=baseline,
                preprocessing=preprocessing,
                seed=seed,
                at_a_time=at_a_time,
                **({"target_layer": target_layer} if method == "guided-grad-cam" else {}),
            ).heatmap

        return attributed
    if method not in class_activation.METHODS:
        near = near_names(method, HEATMAP_METHODS, 3)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known are {', '.join(HEATMAP_METHODS)}."
        raise InspectionError(f"There is no method '{method}'.", hint=hint)
    known: WeakKeyDictionary[nn.Module, dict[torch.Size, TargetLayer]] = WeakKeyDictionary()

    def mapped(network: nn.Module, pictures: Tensor, classes: Tensor) -> Tensor:
        layer = None
        if not class_activation.METHODS[method].reads_one_layer:
            layers, shape = known.setdefault(network, {}), pictures.shape[1:]
            if shape not in layers:
                layers[shape] = _target(network, pictures, target_layer)
            layer = layers[shape]
        parts = zip(torch.split(pictures, at_a_time), torch.split(classes, at_a_time), strict=True)
        return torch.cat(
            [
                class_activation.class_activation_maps(network, some, method, layer, theirs).maps
                for some, theirs in parts
            ]
        )

    return mapped


def _target(network: nn.Module, pictures: Tensor, asked: TargetLayer | str | None) -> TargetLayer:
    if isinstance(asked, TargetLayer):
        return asked
    _, channels, height, width = pictures.shape
    return find_target_layer(network, (channels, height, width), asked)
