"""The small networks of PyTorch courses, for pictures of a few dozen pixels.

Activations are called `relu1` and so on, and norms `bn1`, whatever is chosen in their place, so that the names of a
network's layers don't depend on it. A norm or dropout that is not asked for is not there.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from cutaway.errors import NetworkError
from cutaway.networks.named_layers import activation_named, norm_of_maps, norm_of_vectors
from cutaway.networks.spec import NetworkSpec
from cutaway.settings.network import Activation, Norm

Layers = OrderedDict[str, nn.Module]


def linear(spec: NetworkSpec) -> nn.Module:
    """One linear layer over the flattened picture: softmax regression."""
    channels, height, width = spec.input_shape
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), out=nn.Linear(channels * height * width, spec.num_classes)))


def mlp(
    spec: NetworkSpec, hidden: int = 128, activation: Activation = "relu", norm: Norm = "none", dropout: float = 0.0
) -> nn.Module:
    """Two fully connected layers over the flattened picture."""
    channels, height, width = spec.input_shape
    layers: Layers = OrderedDict(flatten=nn.Flatten(), fc1=nn.Linear(channels * height * width, hidden))
    _add(layers, "bn1", norm_of_vectors(norm, hidden))
    layers["relu1"] = activation_named(activation)
    _add_dropout(layers, "dropout1", dropout)
    layers["out"] = nn.Linear(hidden, spec.num_classes)
    return nn.Sequential(layers)


def lenet5(spec: NetworkSpec, activation: Activation = "relu", norm: Norm = "none", dropout: float = 0.0) -> nn.Module:
    """LeNet-5 (LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998).

    With ReLU and max pooling in place of the tanh and averages of the paper. The first convolution pads by 2, as is
    usual for pictures of 28x28 in place of 32x32. Norms come before activations, dropout after those of the linear
    layers.
    """
    channels, height, width = spec.input_shape
    flat = 16 * _after(height, "lenet5", padding=2) * _after(width, "lenet5", padding=2)
    layers: Layers = OrderedDict()
    for number, (convolution, maps) in enumerate(
        ((nn.Conv2d(channels, 6, 5, padding=2), 6), (nn.Conv2d(6, 16, 5), 16)), start=1
    ):
        layers[f"conv{number}"] = convolution
        _add(layers, f"bn{number}", norm_of_maps(norm, maps))
        layers[f"relu{number}"] = activation_named(activation)
        layers[f"pool{number}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    for number, (inputs, outputs) in enumerate(((flat, 120), (120, 84)), start=1):
        layers[f"fc{number}"] = nn.Linear(inputs, outputs)
        _add(layers, f"bn{number + 2}", norm_of_vectors(norm, outputs))
        layers[f"relu{number + 2}"] = activation_named(activation)
        _add_dropout(layers, f"dropout{number}", dropout)
    layers["out"] = nn.Linear(84, spec.num_classes)
    return nn.Sequential(layers)


def fashion_cnn(
    spec: NetworkSpec, activation: Activation = "relu", norm: Norm = "none", dropout: float = 0.0
) -> nn.Module:
    """The course notes' network: convolutions of 6 and 12 channels, then 120, 60 and the classes.

    Norms come after the first pooling and the first linear layer, as in the notes; dropout after the linear layers.
    """
    channels, height, width = spec.input_shape
    flat = 12 * _after(height, spec.name) * _after(width, spec.name)
    layers: Layers = OrderedDict(
        conv1=nn.Conv2d(channels, 6, 5), relu1=activation_named(activation), pool1=nn.MaxPool2d(2)
    )
    _add(layers, "bn1", norm_of_maps(norm, 6))
    layers |= OrderedDict(
        conv2=nn.Conv2d(6, 12, 5),
        relu2=activation_named(activation),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(flat, 120),
        relu3=activation_named(activation),
    )
    _add(layers, "bn2", norm_of_vectors(norm, 120))
    _add_dropout(layers, "dropout1", dropout)
    layers |= OrderedDict(fc2=nn.Linear(120, 60), relu4=activation_named(activation))
    _add_dropout(layers, "dropout2", dropout)
    layers["out"] = nn.Linear(60, spec.num_classes)
    return nn.Sequential(layers)


def fashion_cnn_bn(
    spec: NetworkSpec, activation: Activation = "relu", norm: Norm = "batch", dropout: float = 0.0
) -> nn.Module:
    """`fashion_cnn` with batch normalisation, or another."""
    return fashion_cnn(spec, activation, norm, dropout)


def alexnet_small(
    spec: NetworkSpec, width: int = 32, activation: Activation = "relu", norm: Norm = "none", dropout: float = 0.5
) -> nn.Module:
    """AlexNet's five convolutions, three poolings and three linear layers, for small pictures.

    Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", 2012. Kernels are of 3x3 and
    the first layer has a stride of 1, so that 28x28 pixels are enough; `width` is that of the first convolution.
    """
    channels, height, width_in = spec.input_shape
    layers: Layers = OrderedDict()
    maps = (channels, width, 2 * width, 3 * width, 2 * width, 2 * width)
    for number in range(1, 6):
        layers[f"conv{number}"] = nn.Conv2d(maps[number - 1], maps[number], 3, padding=1)
        _add(layers, f"bn{number}", norm_of_maps(norm, maps[number]))
        layers[f"relu{number}"] = activation_named(activation)
        if number in (1, 2, 5):
            layers[f"pool{number}"] = nn.MaxPool2d(2, ceil_mode=True)
    side = [-(-size // 8) for size in (height, width_in)]
    layers["flatten"] = nn.Flatten()
    sizes = (2 * width * side[0] * side[1], 8 * width, 4 * width)
    for number in (1, 2):
        _add_dropout(layers, f"dropout{number}", dropout)
        layers[f"fc{number}"] = nn.Linear(sizes[number - 1], sizes[number])
        _add(layers, f"bn{number + 5}", norm_of_vectors(norm, sizes[number]))
        layers[f"relu{number + 5}"] = activation_named(activation)
    layers["out"] = nn.Linear(sizes[2], spec.num_classes)
    return nn.Sequential(layers)


def _add(layers: Layers, name: str, layer: nn.Module | None) -> None:
    if layer is not None:
        layers[name] = layer


def _add_dropout(layers: Layers, name: str, share: float) -> None:
    if share > 0:
        layers[name] = nn.Dropout(share)


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
