from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cutaway.inspect import class_activation_maps
from cutaway.inspect.class_activation import score


def network() -> nn.Sequential:
    torch.manual_seed(4)
    return nn.Sequential(nn.Conv2d(3, 5, 3, 2), nn.ReLU(True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(45, 4)).eval()


def naive(net: nn.Sequential, picture: Tensor, score_of) -> Tensor:
    """Algorithm 1 of the paper, channel by channel, with its baseline."""
    maps = net[1](net[0](picture[None]))[0]
    baseline = score_of(net(torch.zeros_like(picture)[None])[0])
    raised = []
    for channel in maps:
        mask = F.interpolate(channel[None, None], picture.shape[1:], mode="bilinear", align_corners=False)[0, 0]
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        raised.append(score_of(net((picture * mask)[None])[0]) - baseline)
    weights = [math.exp(value) for value in raised]
    weights = [value / sum(weights) for value in weights]
    return sum(weight * channel for weight, channel in zip(weights, maps, strict=True)).relu()


def test_score_cam_by_brute_force(monkeypatch) -> None:
    monkeypatch.setattr(score, "AT_A_TIME", 2)
    net, pictures = network().double(), torch.randn(2, 3, 14, 14, dtype=torch.float64)
    with torch.no_grad():
        found = class_activation_maps(net, pictures, "score-cam", "1", [[0, 3], [1, 2]])
        rather = class_activation_maps(net, pictures, "score-cam", "1", [0, 1], against=[3, 2])
        for sample, classes in enumerate([[0, 3], [1, 2]]):
            for number, chosen in enumerate(classes):
                expected = naive(net, pictures[sample], lambda logits, chosen=chosen: logits[chosen].item())
                assert torch.allclose(found.maps[sample, number], expected)
            expected = naive(net, pictures[sample], lambda logits, c=classes: (logits[c[0]] - logits[c[1]]).item())
            assert torch.allclose(rather.maps[sample], expected)


def test_a_channel_that_is_the_same_everywhere_weighs_nothing() -> None:
    net = network()
    with torch.no_grad():
        net[0].weight[1].zero_()
        net[0].bias[1] = 100.0
    assert class_activation_maps(net, torch.randn(1, 3, 14, 14), "score-cam", "1").maps.max() < 50


def test_where_no_channel_varies_there_is_no_evidence() -> None:
    net = network()
    nn.init.zeros_(net[0].weight)
    found = class_activation_maps(net, torch.randn(2, 3, 14, 14), "score-cam", "1")
    assert found.has_evidence.tolist() == [False, False]


def test_no_gradient_is_needed() -> None:
    with torch.inference_mode():
        found = class_activation_maps(network(), torch.randn(1, 3, 14, 14), "score-cam", "1")
    assert found.maps.shape == (1, 6, 6)


@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_flat_channels_leave_the_others_their_weights(noise: float) -> None:
    net, picture = network().double(), torch.randn(1, 3, 14, 14, dtype=torch.float64)
    with torch.no_grad():
        net[0].weight[1] *= noise
        net[0].bias[1] = 100.0
        net[4].weight[:, 9:18] = 0  # so that the flat channel's 100 does not drown the logits
        found = class_activation_maps(net, picture, "score-cam", "1", class_index=2)
        without = nn.Sequential(nn.Conv2d(3, 4, 3, 2), *net[1:4], nn.Linear(36, 4)).double()
        others = [0, 2, 3, 4]
        without[0].weight.copy_(net[0].weight[others])
        without[0].bias.copy_(net[0].bias[others])
        without[4].weight.copy_(net[4].weight.view(4, 5, 9)[:, others].flatten(1))
        without[4].bias.copy_(net[4].bias)
        expected = naive(without, picture[0], lambda logits: logits[2].item())
    assert torch.allclose(found.maps[0], expected)
    assert found.has_evidence.all()


class _Float64OnTheCpuAlone(TorchFunctionMode):
    """Lets only what was just fetched to the CPU become float64, as on a device without it."""

    def __init__(self) -> None:
        super().__init__()
        self.converted = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is Tensor.double:
            assert getattr(args[0], "fetched", False)
            self.converted += 1
        found = function(*args, **(kwargs or {}))
        if function is Tensor.cpu:
            found = found.view_as(found)
            found.fetched = True
        return found


def test_nothing_becomes_float64_on_the_device() -> None:
    net = network()
    with _Float64OnTheCpuAlone() as mode:
        class_activation_maps(net, torch.randn(2, 3, 14, 14), "score-cam", "1", 0)
    assert mode.converted
