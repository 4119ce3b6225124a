"""Initial weights by the statistics that their names promise."""

import math

import pytest
import torch
from torch import nn

from cutaway.networks.initialising import _FILLS, initialise
from cutaway.settings.network import Init


def filled(name, scale=0.02):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(16, 64, 3), nn.BatchNorm2d(64), nn.Flatten(), nn.Linear(400, 300))
    initialise(network, name, scale)
    return network


# The standard deviation of the convolution's weights: 16 * 9 inputs, 64 * 9 outputs.
DEVIATIONS = {
    "kaiming-normal": math.sqrt(2 / 144),
    "kaiming-uniform": math.sqrt(2 / 144),
    "xavier-normal": math.sqrt(2 / (144 + 576)),
    "xavier-uniform": math.sqrt(2 / (144 + 576)),
    "normal": 0.02,
    "truncated-normal": 0.02 * 0.8796,
    "uniform": 0.02 / math.sqrt(3),
    "zeros": 0.0,
}


@pytest.mark.parametrize("name", DEVIATIONS)
def test_weights_spread_as_they_should(name):
    network = filled(name)
    weight = network[0].weight
    assert weight.std().item() == pytest.approx(DEVIATIONS[name], rel=0.03)
    assert abs(weight.mean().item()) <= 0.03 * DEVIATIONS[name]
    assert not network[0].bias.any()
    assert not network[3].bias.any()
    assert torch.equal(network[1].weight, torch.ones(64))


@pytest.mark.parametrize("kind", ["kaiming", "xavier"])
def test_uniform_is_bounded_and_normal_is_not(kind):
    bound = math.sqrt(3) * DEVIATIONS[f"{kind}-uniform"]
    assert filled(f"{kind}-uniform")[0].weight.abs().max() <= bound
    assert filled(f"{kind}-normal")[0].weight.abs().max() > bound


def test_orthogonal_rows_are():
    weight = filled("orthogonal")[3].weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(300), atol=1e-5, rtol=0)


def test_zero_bias_leaves_the_weights_and_default_everything():
    assert torch.equal(filled("zero-bias")[0].weight, filled("default")[0].weight)
    assert not filled("zero-bias")[0].bias.any()
    assert filled("default")[0].bias.any()


def test_attention_is_filled_by_its_three_projections():
    network = nn.MultiheadAttention(64, 4)
    initialise(network, "xavier-normal", 0.02)
    for weight in network.in_proj_weight.chunk(3):
        assert weight.std().item() == pytest.approx(math.sqrt(1 / 64), rel=0.05)


def test_every_name_is_known():
    from typing import get_args

    assert {"default", *_FILLS} == set(get_args(Init))
