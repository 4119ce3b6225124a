"""Penalties against autograd, clipping against torch's and by hand."""

import copy

import pytest
import torch
from torch import nn

from cutaway.train import TrainSettings
from cutaway.train.recipe.gradients import GradientRules


def with_gradients():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    network(torch.randn(5, 3)).square().sum().backward()
    return network


def gradients(network):
    return [parameter.grad.clone() for parameter in network.parameters()]


def test_penalties_are_those_of_a_loss_with_their_terms():
    network = with_gradients()
    weights = [network[0].weight, network[2].weight]
    before = gradients(network)
    penalty = sum(0.3 * weight.abs().sum() + 0.7 * weight.square().sum() for weight in weights)
    extra = torch.autograd.grad(penalty, weights)
    wanted = [before[0] + extra[0], *before[1:4], before[4] + extra[1], before[5]]
    GradientRules(network, TrainSettings(l1=0.3, l2=0.7)).apply()
    torch.testing.assert_close(gradients(network), wanted)


@pytest.mark.parametrize("longest", [0.5, 1e6])
def test_clipping_by_norm_is_torch_s(longest):
    network = with_gradients()
    theirs = copy.deepcopy(network)
    for own, other in zip(network.parameters(), theirs.parameters(), strict=True):
        other.grad = own.grad.clone()
    nn.utils.clip_grad_norm_(theirs.parameters(), longest)
    before = gradients(network)
    GradientRules(network, TrainSettings(clip_norm=longest)).apply()
    torch.testing.assert_close(gradients(network), gradients(theirs))
    norm = torch.cat([gradient.flatten() for gradient in gradients(network)]).norm()
    assert norm.item() == pytest.approx(0.5, rel=1e-4) if longest == 0.5 else gradients(network)[0].equal(before[0])


def test_clipping_by_value():
    network = with_gradients()
    wanted = [gradient.clamp(-0.1, 0.1) for gradient in gradients(network)]
    assert any(gradient.abs().max() > 0.1 for gradient in gradients(network))
    GradientRules(network, TrainSettings(clip_value=0.1)).apply()
    torch.testing.assert_close(gradients(network), wanted)


def test_frozen_parameters_are_left_alone():
    network = with_gradients()
    for parameter in network[0].parameters():
        parameter.grad = None
    GradientRules(network, TrainSettings(l1=0.1, clip_norm=0.5, clip_value=0.1)).apply()
    assert network[0].weight.grad is None


def test_clipping_comes_after_penalties():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 3.0)
    network.weight.grad = torch.tensor([[0.5]])
    GradientRules(network, TrainSettings(l2=1.0, clip_norm=2.0)).apply()
    assert network.weight.grad.item() == pytest.approx(2.0)


def test_without_rules_nothing_changes():
    network = with_gradients()
    before = gradients(network)
    GradientRules(network, TrainSettings()).apply()
    assert all(torch.equal(a, b) for a, b in zip(before, gradients(network), strict=True))
