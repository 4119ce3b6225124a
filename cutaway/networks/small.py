"""The small networks of PyTorch courses, for pictures of a few dozen pixels."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from cutaway.errors import NetworkError
from cutaway.networks.spec import NetworkSpec


def mlp(spec: NetworkSpec, hidden: int = 128) -> nn.Module:
    """Two fully connected layers over the flattened picture."""
    channels, height, width = spec.input_shape
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(channels * height * width, hidden),
            relu1=nn.ReLU(),
            out=nn.Linear(hidden, spec.num_classes),
        )
    )


def lenet5(spec: NetworkSpec) -> nn.Module:
    """LeNet-5 (LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998).

    With ReLU and max pooling in place of the tanh and averages of the paper. The first convolution pads by 2, as is
    usual for pictures of 28x28 in place of 32x32.
    """
    channels, height, width = spec.input_shape
    flat = 16 * _after(height, "lenet5", padding=2) * _after(width, "lenet5", padding=2)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 6, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(flat, 120),
            relu3=nn.ReLU(),
            fc2=nn.Linear(120, 84),
            relu4=nn.ReLU(),
            out=nn.Linear(84, spec.num_classes),
        )
    )


def fashion_cnn(spec: NetworkSpec) -> nn.Module:
    """The course notes' network: convolutions of 6 and 12 channels, then 120, 60 and the classes."""
    return _fashion_cnn(spec, batch_norm=False)


def fashion_cnn_bn(spec: NetworkSpec) -> nn.Module:
    """`fashion_cnn` with batch normalisation after the first pooling and the first linear layer, as in the notes."""
    return _fashion_cnn(spec, batch_norm=True)


def _fashion_cnn(spec: NetworkSpec, *, batch_norm: bool) -> nn.Module:
    channels, height, width = spec.input_shape
    flat = 12 * _after(height, spec.name) * _after(width, spec.name)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(channels, 6, 5), relu1=nn.ReLU(), pool1=nn.MaxPool2d(2)
    )
    if batch_norm:
        layers["bn1"] = nn.BatchNorm2d(6)
    layers |= OrderedDict(
        conv2=nn.Conv2d(6, 12, 5),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(flat, 120),
        relu3=nn.ReLU(),
    )
    if batch_norm:
        layers["bn2"] = nn.BatchNorm1d(120)
    layers |= OrderedDict(fc2=nn.Linear(120, 60), relu4=nn.ReLU(), out=nn.Linear(60, spec.num_classes))
    return nn.Sequential(layers)


def _after(side: int, name: str, padding: int = 0) -> int:
    """Side length after two rounds of a 5x5 convolution (only the first padded) and 2x2 pooling."""
    left = ((side + 2 * padding - 4) // 2 - 4) // 2
    if left < 1:
        smallest = 16 - 2 * padding
        raise NetworkError(
            f"{name} needs pictures of at least {smallest}x{smallest} pixels, not {side}.",
            hint=f"Give --image-size {max(28, smallest)} or choose the mlp.",
        )
    return left
