"""Which network."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from cutaway.settings.group import SettingsGroup

Activation = Literal[
    "relu",
    "leaky-relu",
    "prelu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "mish",
    "hardswish",
    "softplus",
    "sigmoid",
    "tanh",
]
Norm = Literal["none", "batch", "layer", "instance", "group"]
Init = Literal[
    "default",
    "kaiming-normal",
    "kaiming-uniform",
    "xavier-normal",
    "xavier-uniform",
    "orthogonal",
    "normal",
    "truncated-normal",
    "uniform",
    "zeros",
    "zero-bias",
]


class NetworkSettings(SettingsGroup):
    """The network and its arguments."""

    title: ClassVar[str] = "network"

    network: str = "fashion-cnn-bn"
    """linear, mlp, lenet5, fashion-cnn, fashion-cnn-bn, alexnet-small, resnet-small, torchvision:NAME, or
    python:MODULE:FACTORY of your own with --allow-code MODULE."""
    activation: Activation | None = None
    """Of the small networks, in place of ReLU."""
    norm: Norm | None = None
    """Of the small networks: where fashion-cnn-bn and resnet-small have batch norm, and the others none."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Share of activations that dropout leaves out, in networks that take it."""
    init: Init = "default"
    """How the weights of linear and convolution layers begin, with biases of zero; default leaves it to each layer."""
    init_scale: float = Field(default=0.02, gt=0, le=100)
    """Standard deviation of --init normal and truncated-normal, and the largest value of uniform."""
    network_arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Arguments from the network's allow-list, such as {"width": 32}; for the YAML file."""

    def all_network_arguments(self) -> dict[str, JsonValue]:
        """`network_arguments` with those that have a setting of their own."""
        chosen = {"activation": self.activation, "norm": self.norm, "dropout": self.dropout}
        return self.network_arguments | {name: value for name, value in chosen.items() if value is not None}


NEVER_TO_CHANGE = frozenset({"network", "activation", "norm", "dropout", "init", "init_scale", "network_arguments"})
