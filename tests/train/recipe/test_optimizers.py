"""Optimizers against torch's plain forms and against steps worked out by hand."""

import copy

import pytest
import torch
from torch import nn

from cutaway.checkpoints.optimizer_state import load_named_state, named_state
from cutaway.errors import SettingsError
from cutaway.settings import validated
from cutaway.train import TrainSettings
from cutaway.train.recipe import make_optimizer

PLAIN = {
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=0.1, rho=0.8, eps=1e-3, foreach=False),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, eps=1e-3, foreach=False),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.7, 0.9), eps=1e-3, foreach=False),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.1, betas=(0.7, 0.9), eps=1e-3, foreach=False),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.7, 0.9), eps=1e-3, foreach=False),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.1, betas=(0.7, 0.9), eps=1e-3, foreach=False),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.1, betas=(0.7, 0.9), eps=1e-3, foreach=False),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, alpha=0.8, momentum=0.5, eps=1e-3, foreach=False),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.5, foreach=False),
}
SETTINGS = {"lr": 0.1, "rho": 0.8, "alpha": 0.8, "momentum": 0.5, "betas": (0.7, 0.9), "eps": 1e-3}


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def train(network, optimizer, steps=4):
    inputs = torch.arange(15.0).reshape(5, 3) / 10
    for _ in range(steps):
        optimizer.zero_grad()
        network(inputs).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("name", PLAIN)
def test_each_is_torch_s_with_these_settings(name):
    ours, theirs = small_network(), small_network()
    groups = [
        {"params": [p for p in theirs.parameters() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in theirs.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    train(ours, make_optimizer(ours, TrainSettings(optimizer=name, weight_decay=0.1, **SETTINGS)))
    train(theirs, PLAIN[name](groups))
    for (key, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, msg=key)


@pytest.mark.parametrize("name", PLAIN)
def test_each_runs_as_few_operations(name):
    group = make_optimizer(small_network(), TrainSettings(optimizer=name)).param_groups[0]
    assert group.get("fused") or group["foreach"]
    assert bool(group.get("fused")) == (name in ("adagrad", "adam", "adamw", "sgd"))


@pytest.mark.parametrize("name", PLAIN)
def test_each_goes_on_from_its_stored_state(name):
    settings = TrainSettings(optimizer=name, **SETTINGS)
    whole = small_network()
    train(whole, make_optimizer(whole, settings), steps=5)
    begun = small_network()
    optimizer = make_optimizer(begun, settings)
    train(begun, optimizer, steps=2)
    tensors, groups = named_state(begun, optimizer)
    other = copy.deepcopy(begun)
    resumed = make_optimizer(other, settings)
    load_named_state(other, resumed, {key: tensor.clone() for key, tensor in tensors.items()}, groups)
    train(other, resumed, steps=3)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), other.parameters(), strict=True))


def test_two_steps_of_nesterov_by_hand():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 2.0)
    settings = TrainSettings(optimizer="sgd", lr=0.5, momentum=0.9, nesterov=True, weight_decay=0.1)
    optimizer = make_optimizer(network, settings)
    weight, velocity = 2.0, 0.0
    for _ in range(2):
        optimizer.zero_grad()
        (3 * network.weight).sum().backward()
        optimizer.step()
        gradient = 3 + 0.1 * weight
        velocity = 0.9 * velocity + gradient
        weight -= 0.5 * (gradient + 0.9 * velocity)
    assert network.weight.item() == pytest.approx(weight)


def test_eps_is_torch_s_own_by_default():
    for name, eps in (("adagrad", 1e-10), ("adadelta", 1e-6), ("adamw", 1e-8)):
        assert make_optimizer(small_network(), TrainSettings(optimizer=name)).defaults["eps"] == eps


@pytest.mark.parametrize("values", [{"optimizer": "adam"}, {"optimizer": "sgd", "momentum": 0}])
def test_nesterov_without_momentum_is_refused(values):
    with pytest.raises(SettingsError, match="'nesterov' cannot be True"):
        validated({"nesterov": True} | values)
