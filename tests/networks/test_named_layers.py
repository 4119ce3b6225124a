"""Activations, norms and dropout by name: what is built, what it computes, and what is refused."""

from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cutaway.errors import NetworkError
from cutaway.networks import NetworkSpec, build
from cutaway.networks.named_layers import ACTIVATIONS, NORMS, activation_named, norm_of_maps, norm_of_vectors
from cutaway.settings.network import Activation, Norm

CHOOSING = ["mlp", "lenet5", "fashion-cnn", "fashion-cnn-bn", "alexnet-small", "resnet-small"]


def make(name, **arguments):
    return build(NetworkSpec(name=name, num_classes=3, input_shape=(1, 28, 28), arguments=arguments))


def kinds(network):
    return [type(module) for module in network.modules()]


def test_the_lists_are_those_of_the_settings():
    assert tuple(ACTIVATIONS) == get_args(Activation)
    assert get_args(Norm) == NORMS


def test_activations_by_their_formulas():
    x = torch.tensor([-2.0, 0.5])
    wanted = {
        "relu": x.clamp(min=0),
        "leaky-relu": torch.where(x > 0, x, 0.01 * x),
        "prelu": torch.where(x > 0, x, 0.25 * x),
        "elu": torch.where(x > 0, x, x.exp() - 1),
        "gelu": x * 0.5 * (1 + torch.erf(x / 2**0.5)),
        "silu": x / (1 + (-x).exp()),
        "sigmoid": 1 / (1 + (-x).exp()),
        "tanh": x.tanh(),
        "softplus": (1 + x.exp()).log(),
    }
    for name, values in wanted.items():
        torch.testing.assert_close(activation_named(name)(x).detach(), values, msg=name)


def test_norms_by_their_statistics():
    """Which of a batch's numbers share a mean of zero and a variance of one."""
    maps = torch.randn(5, 12, 4, 4, generator=torch.Generator().manual_seed(0)) * 3 + 1
    axes = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3)}
    for name, over in axes.items():
        normed = norm_of_maps(name, 12)(maps)
        mean, variance = normed.mean(over), normed.var(over, unbiased=False)
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
        torch.testing.assert_close(variance, torch.ones_like(variance), atol=1e-3, rtol=0)
    grouped = norm_of_maps("group", 12)(maps).reshape(5, 6, -1)
    torch.testing.assert_close(grouped.mean(2), torch.zeros(5, 6), atol=1e-5, rtol=0)
    vectors = torch.randn(5, 12)
    torch.testing.assert_close(norm_of_vectors("layer", 12)(vectors), F.layer_norm(vectors, (12,)))
    assert norm_of_vectors("instance", 12) is None
    assert all(norm(name, 12) is None for name in ("none",) for norm in (norm_of_maps, norm_of_vectors))


@pytest.mark.parametrize("channels", [1, 2, 6, 7, 12, 16, 120])
def test_a_group_is_of_more_than_one_channel(channels):
    groups = norm_of_maps("group", channels).num_groups
    assert channels % groups == 0
    assert channels == 1 or groups < channels


@pytest.mark.parametrize("name", CHOOSING)
def test_each_network_takes_each_activation_and_norm(name):
    inputs = torch.rand(2, 1, 28, 28)
    for activation, kind in ACTIVATIONS.items():
        network = make(name, activation=activation)
        assert type(kind()) in kinds(network)
        assert activation == "relu" or nn.ReLU not in kinds(network)
        assert network(inputs).shape == (2, 3)
    norms = {"batch": nn.modules.batchnorm._BatchNorm, "group": nn.GroupNorm, "instance": nn.InstanceNorm2d}
    for norm, kind in norms.items():
        network = make(name, norm=norm)
        found = [module for module in network.modules() if isinstance(module, kind)]
        assert found or (name, norm) == ("mlp", "instance")
        assert network(inputs).shape == (2, 3)
    without = make(name, norm="none")
    assert not any("Norm" in kind.__name__ for kind in kinds(without))
    assert without(inputs).shape == (2, 3)


@pytest.mark.parametrize("name", CHOOSING)
def test_dropout_is_there_where_it_is_asked_for(name):
    shares = {module.p for module in make(name, dropout=0.25).modules() if isinstance(module, nn.Dropout)}
    assert shares == {0.25}
    off = [module for module in make(name, dropout=0.0).modules() if isinstance(module, nn.Dropout) and module.p]
    assert off == []


def test_names_of_layers_do_not_depend_on_the_choice():
    plain = list(make("fashion-cnn-bn").state_dict())
    grouped = list(make("fashion-cnn-bn", norm="group", activation="tanh", dropout=0.5).state_dict())
    assert grouped == [name for name in plain if "running" not in name and "tracked" not in name]
    assert list(make("fashion-cnn", norm="batch").state_dict()) == plain


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("linear", {"activation": "relu"}, "no argument 'activation'"),
        ("torchvision:resnet18", {"norm": "group"}, "no argument 'norm'"),
        ("mlp", {"activation": "rellu"}, "cannot be 'rellu'"),
        ("mlp", {"norm": ["batch"]}, "cannot be"),
    ],
)
def test_what_a_network_does_not_take_is_refused_in_words(name, arguments, said):
    with pytest.raises(NetworkError, match=said):
        make(name, **arguments)
