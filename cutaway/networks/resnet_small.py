"""A small residual network that is accurate on small pictures and quick on two CPU cores."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from cutaway.networks.named_layers import activation_named, norm_of_maps
from cutaway.networks.spec import NetworkSpec
from cutaway.settings.network import Activation, Norm


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with norms, added to a shortcut (He et al., arXiv:1512.03385, figure 2).

    The norms are called `bn1` and `bn2`, and the activations `relu1` and `relu2`, whatever is chosen in their place.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, activation: Activation, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = _norm(norm, channels)
        self.relu1 = activation_named(activation)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = _norm(norm, channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                OrderedDict(conv=nn.Conv2d(in_channels, channels, 1, stride, bias=False), bn=_norm(norm, channels))
            )
        self.relu2 = activation_named(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, in_channels, H, W] -> float [N, channels, H / stride, W / stride]."""
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.shortcut(x))  # type: ignore[no-any-return]


def resnet_small(
    spec: NetworkSpec, width: int = 16, dropout: float = 0.0, activation: Activation = "relu", norm: Norm = "batch"
) -> nn.Module:
    """Stem and three residual stages of `width`, 2 and 4 times `width` channels, the picture halved three times."""
    stem = OrderedDict(
        conv=nn.Conv2d(spec.input_shape[0], width, 3, padding=1, bias=False),
        bn=_norm(norm, width),
        relu=activation_named(activation),
        pool=nn.MaxPool2d(2, ceil_mode=True),
    )
    return nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(stem),
            stage1=ResidualBlock(width, 2 * width, stride=1, activation=activation, norm=norm),
            stage2=ResidualBlock(2 * width, 4 * width, stride=2, activation=activation, norm=norm),
            stage3=ResidualBlock(4 * width, 4 * width, stride=1, activation=activation, norm=norm),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            out=nn.Linear(4 * width, spec.num_classes),
        )
    )


def _norm(name: Norm, channels: int) -> nn.Module:
    return norm_of_maps(name, channels) or nn.Identity()
