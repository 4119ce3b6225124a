"""Parameter groups by the names of what is in them."""

import pytest
import torch
from torch import nn

from cutaway.networks import NetworkSpec, build
from cutaway.networks.heads import find_parts
from cutaway.train import TrainSettings
from cutaway.train.recipe import make_optimizer, parameter_groups
from cutaway.train.stepping import step


def named(network, groups):
    names = {parameter: name for name, parameter in network.named_parameters()}
    return {group["name"]: [names[parameter] for parameter in group["params"]] for group in groups}


def test_norms_and_biases_are_not_decayed():
    network = build(NetworkSpec(name="fashion-cnn-bn", num_classes=10, input_shape=(1, 28, 28)))
    groups = parameter_groups(network, 0.1)
    weights = [f"{layer}.weight" for layer in ("conv1", "conv2", "fc1", "fc2", "out")]
    others = [name for name, _ in network.named_parameters() if name not in weights]
    assert named(network, groups) == {"network, decayed": weights, "network, not decayed": others}
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert [group["lr_scale"] for group in groups] == [1.0, 1.0]


def test_a_norm_is_told_by_what_it_is_not_by_its_dimensions():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.LayerNorm([2, 4, 4]), nn.PReLU(2), nn.GroupNorm(1, 2))
    assert network[1].weight.dim() == 3
    found = named(network, parameter_groups(network, 0.1))
    assert found["network, decayed"] == ["0.weight"]
    assert found["network, not decayed"] == ["0.bias", "1.weight", "1.bias", "2.weight", "3.weight", "3.bias"]


def test_shared_weights_are_in_one_group_once():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    network = nn.Sequential(first, second)
    assert named(network, parameter_groups(network, 0.1)) == {
        "network, decayed": ["0.weight"],
        "network, not decayed": ["0.bias", "1.bias"],
    }


def test_rates_fall_by_depth():
    network = build(NetworkSpec(name="torchvision:resnet18", num_classes=3, input_shape=(3, 64, 64)))
    settings = TrainSettings(layer_decay=0.5, weight_decay=0.1)
    optimizer = make_optimizer(network, settings, find_parts(network, (3, 64, 64), 3))
    scales = {group["name"]: group["lr_scale"] for group in optimizer.param_groups}
    by_stage = {0: 1 / 32, 1: 1 / 16, 2: 1 / 8, 3: 1 / 4, 4: 1 / 2}
    wanted = {
        f"stage {stage}, {decayed}decayed": scale for stage, scale in by_stage.items() for decayed in ("", "not ")
    }
    assert scales == wanted | {"head, decayed": 1.0, "head, not decayed": 1.0}
    found = named(network, optimizer.param_groups)
    assert found["stage 0, decayed"] == ["conv1.weight"]
    assert found["stage 0, not decayed"] == ["bn1.weight", "bn1.bias"]
    assert found["head, not decayed"] == ["fc.bias"]
    assert all(name.startswith("layer4.") for name in found["stage 4, decayed"])
    assert sum(len(names) for names in found.values()) == len(list(network.parameters()))


def test_a_step_multiplies_each_group_s_rate(make_session):
    network = nn.Linear(2, 2, bias=False)
    session = make_session(network, optimizer="sgd", momentum=0.0, weight_decay=0.0)
    session.optimizer.param_groups[0]["lr_scale"] = 0.25
    before = network.weight.detach().clone()
    inputs, labels = torch.tensor([[1.0, 2.0]]), torch.tensor([1])
    gradient = torch.autograd.grad(nn.functional.cross_entropy(network(inputs), labels), network.weight)[0]
    step(session, inputs, labels, 0.8)
    torch.testing.assert_close(network.weight.detach(), before - 0.2 * gradient)


def test_every_torchvision_family_has_every_parameter_once():
    for name in ("vit_b_16", "swin_t", "convnext_tiny", "densenet121", "efficientnet_b0"):
        from torchvision import models

        network = models.get_model(name, weights=None, num_classes=3)
        groups = parameter_groups(network, 0.1)
        together = [parameter for group in groups for parameter in group["params"]]
        assert set(together) == set(network.parameters()), name
        assert len(together) == len(set(together)), name


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_a_rate_by_depth_is_a_share(value):
    with pytest.raises(ValueError, match="layer_decay"):
        TrainSettings(layer_decay=value)
