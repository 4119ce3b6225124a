from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.errors import InspectionError
from cutaway.inspect.channel_figures import draw_top_pictures
from cutaway.inspect.channels import channel_activity


class Net(nn.Module):
    """Channel 0 is the picture, 1 its negative, 2 always negative, 3 always one."""

    def __init__(self, activation: str = "relu") -> None:
        super().__init__()
        self.activation = activation
        self.conv = nn.Conv2d(1, 4, 1)
        self.norm = nn.BatchNorm2d(4, eps=0)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, -1.0, 0.0, 0.0]).reshape(4, 1, 1, 1))
            self.conv.bias.copy_(torch.tensor([0.0, 0.0, -5.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        x = F.relu(x, inplace=True) if self.activation == "relu" else getattr(torch, self.activation)(x)
        return x.mean((2, 3))


LEVELS = torch.tensor([1.0, -2.0, 3.0, 0.0, 2.0])
PICTURES = LEVELS.reshape(5, 1, 1, 1).expand(5, 1, 2, 2).contiguous()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_dead_constant_and_top_pictures_worked_out_by_hand(size: int) -> None:
    network = Net()
    (found,) = channel_activity(network, PICTURES.split(size), top=2)
    assert (found.layer, found.kind, found.num_pictures, found.num_channels) == (":relu#0", "relu", 5, 4)
    assert found.silent.tolist() == pytest.approx([0.4, 0.8, 1, 0])
    assert (found.dead, found.constant, found.saturated, found.flat) == ([2], [3], [], None)
    assert found.top[:2].tolist() == [[2, 4], [1, 0]]
    assert found.top_values[:2].tolist() == [[3, 2], [2, 0]]
    assert found.moments.mean.tolist() == pytest.approx([6 / 5, 2 / 5, 0, 1])
    assert found.most_varied(2) == [0, 1]
    assert all(module.training for module in network.modules())
    assert network.norm.num_batches_tracked == 0


def test_saturation_by_the_stated_threshold() -> None:
    (found,) = channel_activity(Net("sigmoid"), [PICTURES * 10], top=1)
    # Of 10, -20, 30, 0 and 20 only the sigmoid of 0 is not flat; that of -5 always is, and that of 1 never.
    assert found.flat is not None
    assert found.flat.tolist() == pytest.approx([0.8, 0.8, 1, 0])
    assert found.saturated == [2]
    (found,) = channel_activity(Net("tanh"), [PICTURES * 10])
    assert found.saturated == [2]


def test_saturated_channels_are_not_dead() -> None:
    network = nn.Sequential(Net().conv, nn.Hardswish(), nn.Flatten())
    with torch.no_grad():
        # The picture ten times: one of five is in the flat part below -3. Always far below: zero, so dead. Flat on all
        # but one picture: saturated only if 95% are.
        network[0].weight.copy_(torch.tensor([10.0, 1.0, 0.0, 0.0]).reshape(4, 1, 1, 1))
        network[0].bias.copy_(torch.tensor([0.0, -5.5, -5.0, 1.0]))
    pictures = torch.cat([PICTURES[:1].expand(39, 1, 2, 2), PICTURES[2:3]])
    (found,) = channel_activity(network, [pictures])
    assert found.flat is not None
    assert found.flat.tolist() == pytest.approx([0, 39 / 40, 1, 0])
    assert found.dead == [2]
    assert found.saturated == [1]


def test_activations_that_run_twice_are_kept_apart() -> None:
    relu = nn.ReLU()
    network = nn.Sequential(
        nn.Conv2d(1, 2, 1), relu, nn.Conv2d(2, 3, 1), relu, nn.Flatten(), nn.Linear(12, 2), nn.Tanh()
    )
    found = channel_activity(network, [PICTURES, PICTURES])
    assert [(layer.layer, layer.num_channels, layer.num_pictures) for layer in found] == [
        ("1", 2, 10),
        ("1[1]", 3, 10),
        ("6", 2, 10),
    ]


def test_channels_that_come_last() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 5, 1)
            self.norm = nn.LayerNorm(5)

        def forward(self, x: Tensor) -> Tensor:
            x = F.gelu(self.norm(self.conv(x).permute(0, 2, 3, 1)))
            return F.gelu(x.flatten(1, 2)).mean(1)

    found = channel_activity(Last(), [torch.randn(3, 1, 4, 6)], ["norm", "*:gelu#*"])
    assert [layer.num_channels for layer in found] == [5, 5, 5]


def test_activations_that_a_network_lacks_are_nothing_to_warn_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # what earlier tests left to the garbage collector
        (found,) = channel_activity(Net(), [PICTURES])
    assert found.kind == "relu"


def test_what_has_no_channels_is_an_error_in_words() -> None:
    with pytest.raises(InspectionError, match="no pictures"):
        channel_activity(Net(), [])
    with pytest.raises(InspectionError, match="returns no channels"):
        channel_activity(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(0)), [PICTURES], "1")
    with pytest.raises(InspectionError, match="no layer of this kind"):
        channel_activity(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), [PICTURES])


def test_a_channel_that_is_not_finite_is_named() -> None:
    network = Net()
    with torch.no_grad():
        network.conv.bias[1] = float("nan")
    (found,) = channel_activity(network, [PICTURES])
    assert found.not_finite == [1]
    assert found.dead == [2]


def test_the_sheet_shows_a_row_a_channel_and_says_which_are_dead() -> None:
    (found,) = channel_activity(Net(), [PICTURES], top=3)
    asked: list[int] = []

    def picture(index: int) -> np.ndarray:
        asked.append(index)
        return np.full((2, 2, 1), index, np.uint8)

    figure = draw_top_pictures(found, picture, channels=[0, 2])
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts == ["channel 0\nsilent on 40%", "channel 2\nsilent on 100%", "dead: zero on every picture"]
    assert asked == [2, 4, 0]
    assert [axes.get_title() for axes in figure.axes if axes.images] == ["3", "2", "1"]


def test_a_picture_that_is_not_a_number_excites_least() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    nn.init.ones_(network[0].weight)
    pictures = torch.tensor([-1.0, float("nan"), -2.0]).reshape(3, 1, 1, 1)
    (found,) = channel_activity(network, [pictures], "0", top=3)
    assert found.top.tolist() == [[0, 2, 1]]


def test_one_batch_in_place_of_several_is_told() -> None:
    with pytest.raises(InspectionError, match=r"Put it into a list: \[images\]"):
        channel_activity(nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU()), torch.ones(2, 1, 4, 4))


def test_labels_beside_the_pictures_are_told() -> None:
    with pytest.raises(InspectionError, match=r"a list of 2\. Leave the labels out"):
        channel_activity(Net(), [[PICTURES, torch.zeros(len(PICTURES))]])
