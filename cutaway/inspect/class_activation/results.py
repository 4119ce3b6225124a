"""What a class activation map says, and where and for what it was computed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.heatmaps import NEARLY_ZERO
from cutaway.networks.target_layers import TargetLayer


@dataclass(frozen=True)
class ClassActivation:
    """Class activation maps of a batch, as they were computed: raw, at the layer's resolution and in its units.

    Scaling, colouring and laying a map over its picture is `cutaway.heatmaps`' business. Where T targets a picture
    were asked for, there is one more dimension: [N, T, h, w] and [N, T].

    Attributes:
        maps: float32 [N, h, w] (float64 from a float64 network), at least 0 unless signed maps were asked for. Of one
            layer in the method's own unit, mostly that of the logit; of several fused layers between 0 and 1.
        logits: float [N, K].
        class_index: int64 [N], the class that each map speaks for.
        target_layers: Where the maps were read; more than one where layers were fused.
        method: The method's name.
        against: int64 [N], the class that each map's class was held against; None where there was none.
        alone: Why each picture went through the network by itself, in words that follow upon "since": its answer to a
            picture depends on the pictures beside it. None where it does not, as usual.
    """

    maps: Tensor
    logits: Tensor
    class_index: Tensor
    target_layers: tuple[TargetLayer, ...]
    method: str = "grad-cam"
    against: Tensor | None = None
    alone: str | None = None

    @property
    def target_layer(self) -> TargetLayer:
        """The layer that the maps were read at; the last one of several."""
        return self.target_layers[-1]

    @property
    def has_evidence(self) -> Tensor:
        """Whether anything in the picture speaks for the class at this layer; otherwise its map is empty. Bool [N].

        What is rounding noise beside the picture's largest logit speaks for nothing; see `cutaway.heatmaps.is_empty`.
        """
        return speak_for_something(self.maps, self.logits)

    @property
    def probabilities(self) -> Tensor:
        """The probability of the class that each map speaks for: float [N]."""
        return (
            self.logits.softmax(1).gather(1, self.class_index.reshape(len(self.logits), -1)).view_as(self.class_index)
        )


def speak_for_something(maps: Tensor, logits: Tensor) -> Tensor:
    """Which maps are more than rounding noise beside the picture's largest logit.

    Args:
        maps: float [N, h, w] or [N, T, h, w].
        logits: float [N, K].

    Returns:
        Bool [N] or [N, T].
    """
    sizes = logits.double().abs()
    largest = torch.where(sizes.isfinite(), sizes, 0).amax(1).clamp_min(1)
    strongest = maps.amax((-2, -1)).double() * (maps.shape[-2] * maps.shape[-1])
    return strongest >= NEARLY_ZERO * largest.view(-1, *[1] * (strongest.dim() - 1))


def no_evidence(activation: ClassActivation, label: str, against: str | None = None) -> str:
    """The sentence that stands where a map is empty, e.g. "no positive evidence at layer4 for coat"."""
    layers = " and ".join(layer.name for layer in activation.target_layers)
    rather = "" if against is None else f" rather than {against}"
    return f"no positive evidence at {layers} for {label}{rather}"
