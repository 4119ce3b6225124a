"""Class activation maps: which parts of a picture speak for a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.heatmaps import NEARLY_ZERO
from cutaway.hooks import untouched, without_attention_fast_path
from cutaway.networks.target_layers import TargetLayer, find_target_layer


@dataclass(frozen=True)
class ClassActivation:
    """Class activation maps of a batch, as they were computed.

    Attributes:
        maps: float32 [N, h, w], at least 0, at the target layer's resolution and not scaled; in units of the logit.
        logits: float [N, K].
        class_index: int64 [N], the class that each map speaks for.
        target_layer: Where the maps were read.
    """

    maps: Tensor
    logits: Tensor
    class_index: Tensor
    target_layer: TargetLayer

    @property
    def has_evidence(self) -> Tensor:
        """Whether anything in the picture speaks for the class at this layer; otherwise its map is empty. Bool [N]."""
        return self.maps.flatten(1).amax(1) >= NEARLY_ZERO

    @property
    def probabilities(self) -> Tensor:
        """The probability of the class that each map speaks for: float [N]."""
        return self.logits.softmax(1).gather(1, self.class_index[:, None])[:, 0]


def grad_cam(
    network: nn.Module,
    inputs: Tensor,
    target_layer: TargetLayer | str | None = None,
    class_index: int | Sequence[int] | Tensor = -1,
) -> ClassActivation:
    """Grad-CAM (Selvaraju et al., arXiv:1610.02391, equations 1 and 2).

    With A the target layer's maps and y the logit of the class: the weight of channel k is the mean of dy/dA_k over
    all positions, and the map is ReLU(sum over k of weight_k A_k). The gradient is taken from the target layer up
    only, so the whole costs little more than a forward pass. The network runs in evaluation mode and is left as it
    was; no `.grad` is written.

    Args:
        network: Any classifier that returns logits [N, K].
        inputs: float [N, C, H, W], preprocessed.
        target_layer: Where to read the map: a layer's name, what `find_target_layer` gave (which saves looking for
            it again), or None for the default.
        class_index: The class to explain, one for all samples or one per sample; -1 is a sample's top class.

    Returns:
        Maps, logits and classes.

    Raises:
        InspectionError: Gradients are impossible here, or a class index does not exist.
        NetworkError: There is no such target layer.

    Example:
        >>> activation = grad_cam(network, images, class_index=[3, -1])
        >>> activation.maps.shape, activation.has_evidence
    """
    if torch.is_inference_mode_enabled():
        raise InspectionError(
            "Grad-CAM needs gradients, which torch.inference_mode() rules out.", hint="Call it outside inference_mode."
        )
    if inputs.dim() != 4 or not inputs.is_floating_point() or len(inputs) == 0:
        raise InspectionError(
            f"Grad-CAM takes preprocessed pictures as floats [N, C, H, W], not {inputs.dtype} {list(inputs.shape)}.",
            hint="Put one picture into a batch with `picture[None]`, and pixels through the network's preprocessing.",
        )
    if not isinstance(target_layer, TargetLayer):
        _, channels, height, width = inputs.shape
        target_layer = find_target_layer(network, (channels, height, width), target_layer)
    parameter = next(network.parameters(), None)
    if parameter is not None:
        inputs = inputs.to(parameter.device)
    with untouched(network), torch.no_grad(), without_attention_fast_path():
        network.eval()
        # An inference tensor could not be kept for the gradient.
        feature_maps, logits = _run(network, inputs.clone() if inputs.is_inference() else inputs, target_layer)
        classes = _classes(class_index, logits.detach())
        gradient = _gradient(logits, feature_maps, classes, target_layer)
        maps = _weighted(target_layer.as_maps(feature_maps.detach()), target_layer.as_maps(gradient))
    return ClassActivation(maps, logits.detach(), classes, target_layer)


def _run(network: nn.Module, inputs: Tensor, target_layer: TargetLayer) -> tuple[Tensor, Tensor]:
    """The target layer's output and the logits, with a graph between the two and none below."""
    kept: list[Tensor] = []

    def start_here(module: nn.Module, args: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or kept:
            raise InspectionError(
                f"Layer {target_layer.name!r} returns no single tensor, or is called more than once.",
                hint="Let `find_target_layer` choose or check the target layer.",
            )
        torch.set_grad_enabled(True)
        kept.append(output.detach().clone().requires_grad_())
        # A copy for the rest of the network, so that an in-place ReLU cannot write over the maps.
        return kept[0].clone()

    handle = network.get_submodule(target_layer.name).register_forward_hook(start_here)
    try:
        output = network(inputs)
    finally:
        handle.remove()
    if not kept:
        raise InspectionError(f"Layer {target_layer.name!r} was not called.", hint="Choose a layer that is in use.")
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor):
        raise InspectionError(
            f"Grad-CAM needs a network that returns logits, not a {type(output).__name__}.",
            hint="Wrap it in a module that returns the logits alone.",
        )
    if logits.dim() != 2 or len(logits) != len(inputs):
        raise InspectionError(
            f"Grad-CAM needs logits [N, K] for N = {len(inputs)} pictures, not {list(logits.shape)}.",
            hint="Wrap the network in a module that returns one row of logits per picture.",
        )
    return kept[0], logits


def _classes(class_index: int | Sequence[int] | Tensor, logits: Tensor) -> Tensor:
    chosen = torch.as_tensor(class_index, device=logits.device)
    count, num_classes = logits.shape
    if chosen.is_floating_point() or chosen.dtype == torch.bool or (chosen.dim() and chosen.shape != (count,)):
        raise InspectionError(
            f"class_index must be one integer, or one for each of the {count} pictures; it is "
            f"{chosen.dtype} {list(chosen.shape)}."
        )
    if chosen.numel() and not -1 <= int(chosen.min()) <= int(chosen.max()) < num_classes:
        wrong = chosen[(chosen < -1) | (chosen >= num_classes)].flatten()[0].item()
        raise InspectionError(
            f"There is no class {wrong}.", hint=f"Classes are 0 to {num_classes - 1}; -1 is the top class."
        )
    chosen = chosen.long().expand(count)
    return torch.where(chosen < 0, logits.argmax(1), chosen)


def _gradient(logits: Tensor, feature_maps: Tensor, classes: Tensor, target_layer: TargetLayer) -> Tensor:
    with torch.enable_grad():
        # Samples don't mix in evaluation mode, so one sum gives every sample's own gradient.
        score = logits.gather(1, classes[:, None]).sum()
    gradient: Tensor | None = None
    if score.requires_grad:
        (gradient,) = torch.autograd.grad(score, feature_maps, allow_unused=True)
    if gradient is None:
        raise InspectionError(
            f"The logits do not depend on layer {target_layer.name!r}, or the network cuts off gradients.",
            hint="Choose a layer on the way to the logits; look for `detach` and `no_grad` in the forward pass.",
        )
    return gradient


def _weighted(feature_maps: Tensor, gradient: Tensor) -> Tensor:
    """ReLU of the maps' sum, each weighted by the mean of its gradient: [N, C, h, w] twice -> float32 [N, h, w]."""
    weights = gradient.float().mean((2, 3))
    return torch.einsum("nc,nchw->nhw", weights, feature_maps.float()).relu()
