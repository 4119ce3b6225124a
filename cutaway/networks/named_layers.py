"""Activations and norms by name, for networks that let a person choose them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import get_args

from torch import nn

from cutaway.settings.network import Activation, Norm

ACTIVATIONS: Mapping[Activation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
NORMS: tuple[Norm, ...] = get_args(Norm)
_MOST_GROUPS = 8


def activation_named(name: Activation) -> nn.Module:
    """A new activation; a PReLU has one slope for all channels."""
    return ACTIVATIONS[name]()


def norm_of_maps(name: Norm, channels: int) -> nn.Module | None:
    """A norm over feature maps [N, channels, h, w], with a scale and a shift for each channel; None for `none`.

    `layer` takes its statistics over all channels and positions of a sample, `group` over those of some channels
    (Wu & He, arXiv:1803.08494), `instance` over the positions of one.
    """
    match name:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "layer":
            return nn.GroupNorm(1, channels)
        case "instance":
            return nn.InstanceNorm2d(channels, affine=True)
        case "group":
            return nn.GroupNorm(_groups(channels), channels)
        case "none":
            return None


def norm_of_vectors(name: Norm, features: int) -> nn.Module | None:
    """Likewise over vectors [N, features]; None for `instance` too, since one number has no statistics."""
    match name:
        case "batch":
            return nn.BatchNorm1d(features)
        case "layer":
            return nn.LayerNorm(features)
        case "group":
            return nn.GroupNorm(_groups(features), features)
        case "instance" | "none":
            return None


def _groups(channels: int) -> int:
    """The most groups of equal size, up to eight, that are of more than one channel."""
    return max(number for number in range(1, _MOST_GROUPS + 1) if channels % number == 0 and 2 * number <= channels + 1)
