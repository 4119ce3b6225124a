"""A small residual network that is accurate on small pictures and quick on two CPU cores."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from cutaway.networks.spec import NetworkSpec


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to a shortcut (He et al., arXiv:1512.03385, figure 2)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                OrderedDict(conv=nn.Conv2d(in_channels, channels, 1, stride, bias=False), bn=nn.BatchNorm2d(channels))
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, in_channels, H, W] -> float [N, channels, H / stride, W / stride]."""
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.shortcut(x))  # type: ignore[no-any-return]


def resnet_small(spec: NetworkSpec, width: int = 16, dropout: float = 0.0) -> nn.Module:
    """Stem and three residual stages of `width`, 2 and 4 times `width` channels, the picture halved three times."""
    stem = OrderedDict(
        conv=nn.Conv2d(spec.input_shape[0], width, 3, padding=1, bias=False),
        bn=nn.BatchNorm2d(width),
        relu=nn.ReLU(),
        pool=nn.MaxPool2d(2, ceil_mode=True),
    )
    return nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(stem),
            stage1=ResidualBlock(width, 2 * width, stride=1),
            stage2=ResidualBlock(2 * width, 4 * width, stride=2),
            stage3=ResidualBlock(4 * width, 4 * width, stride=1),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            out=nn.Linear(4 * width, spec.num_classes),
        )
    )
