from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from cutaway.errors import InspectionError, NetworkError
from cutaway.inspect.features import FeatureMaps, feature_maps
from cutaway.networks.target_layers import TargetLayer


def network(inplace: bool = False) -> nn.Sequential:
    built = nn.Sequential(
        nn.Conv2d(1, 3, 1, bias=False),
        nn.ReLU(inplace),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(12, 2),
    )
    with torch.no_grad():
        built[0].weight.copy_(torch.tensor([1.0, -2.0, 0.0]).reshape(3, 1, 1, 1))
    return built


PICTURES = torch.stack([torch.full((1, 4, 4), 3.0), torch.full((1, 4, 4), -1.0)])


@pytest.mark.parametrize("inplace", [False, True])
def test_maps_strength_and_silence_worked_out_by_hand(inplace: bool) -> None:
    before, after = feature_maps(network(inplace), PICTURES, ["0", "1"])
    assert [found.layer.name for found in (before, after)] == ["0", "1"]
    assert before.maps[:, :, 0, 0].tolist() == [[3, -6, 0], [-1, 2, 0]]
    assert after.maps[:, :, 0, 0].tolist() == [[3, 0, 0], [0, 2, 0]]
    assert before.strongest(0, limit=2) == [1, 0]
    assert after.strongest(1, limit=9) == [1, 0, 2]
    assert after.strength.tolist() == [[3, 0, 0], [0, 2, 0]]
    assert (before.silent, after.silent) == ([2], [2])


def test_by_default_each_size_of_map_is_shown_once() -> None:
    (found,) = feature_maps(network(), PICTURES)
    assert found.layer == TargetLayer("1", "nchw")


def test_maps_of_channels_last_layers_come_channels_first() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 5, 1)
            self.norm = nn.LayerNorm(5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.conv(x).permute(0, 2, 3, 1)).mean((1, 2))

    (found,) = feature_maps(Last(), torch.randn(2, 1, 4, 6), "norm")
    assert found.maps.shape == (2, 5, 4, 6)


def test_the_network_is_left_as_it_was() -> None:
    net = network()
    feature_maps(net, PICTURES)
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks for module in net.modules())


def test_what_cannot_be_shown_is_an_error_in_words() -> None:
    with pytest.raises(InspectionError, match="batch of pictures"):
        feature_maps(network(), PICTURES[0])
    with pytest.raises(NetworkError, match="no layer 'conv'"):
        feature_maps(network(), PICTURES, "conv")
    with pytest.raises(InspectionError, match="no layer whose output is a map"):
        feature_maps(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), PICTURES)


def test_ranked_by_variance_a_bright_even_map_comes_after_a_faint_uneven_one() -> None:
    maps = torch.zeros(1, 3, 1, 2)
    maps[0, 0] = 9
    maps[0, 2] = torch.tensor([[0.0, 2.0]])
    found = FeatureMaps(TargetLayer("x", "nchw"), maps)
    assert found.variance.tolist() == [[0, 0, 1]]
    assert found.strongest(0, 3) == [0, 2, 1]
    assert found.strongest(0, 3, rank="variance") == [2, 0, 1]


def test_ties_keep_the_channels_order() -> None:
    assert FeatureMaps(TargetLayer("x", "nchw"), torch.ones(1, 4, 2, 2)).strongest(0, 3) == [0, 1, 2]


def test_layers_are_found_by_pattern():
    from cutaway.networks import NetworkSpec, build

    network = build(NetworkSpec(name="resnet-small", num_classes=3, input_shape=(1, 28, 28)))
    found = feature_maps(network, torch.rand(1, 1, 28, 28), ["stage1.conv*", "stage3"])
    assert [maps.layer.name for maps in found] == ["stage1.conv1", "stage1.conv2", "stage3"]
    with pytest.raises(InspectionError, match="matches 'stage9"):
        feature_maps(network, torch.rand(1, 1, 28, 28), "stage9.*")


def test_what_an_operation_returns_is_shown_by_its_name() -> None:
    class Residual(nn.Sequential):
        def forward(self, x):
            return torch.flatten(super().forward(x) + x, 1)

    network = nn.Sequential(nn.Identity(), Residual(nn.ReLU()))
    picture = torch.tensor([[[[1.0, -2.0], [3.0, 0.0]]]])
    (found,) = feature_maps(network, picture, "1:add#0")
    assert (found.layer.name, found.maps.tolist()) == ("1:add#0", [[[[2, -2], [6, 0]]]])
    with pytest.raises(NetworkError, match=r"'1:flatten#0' returns no maps .* \[1, 4\]"):
        feature_maps(network, picture, "1:flatten#0")
    with pytest.raises(InspectionError, match="mul#0"):
        feature_maps(network, picture, "1:mul#0")


def test_operations_are_found_by_pattern() -> None:
    class Residual(nn.Sequential):
        def forward(self, x):
            return super().forward(x) + x

    network = nn.Sequential(Residual(nn.ReLU()), Residual(nn.ReLU()))
    picture = torch.tensor([[[[1.0, -2.0], [3.0, 0.0]]]])
    found = feature_maps(network, picture, ["*:add#*", "1"])
    assert [maps.layer.name for maps in found] == ["0:add#0", "1:add#0", "1"]
    assert found[1].maps.tolist() == found[2].maps.tolist() == [[[[4, -2], [12, 0]]]]


def test_a_layer_with_a_colon_in_its_name_is_no_operation() -> None:
    class ChannelsLast(nn.Sequential):
        def forward(self, x):
            return super().forward(x.permute(0, 2, 3, 1))

    network = nn.Sequential(nn.Conv2d(1, 3, 3), ChannelsLast(OrderedDict({"norm:last": nn.LayerNorm(3)})))
    (found,) = feature_maps(network, torch.rand(2, 1, 8, 8), "1.norm:last")
    assert found.layer.layout == "nhwc"
    assert found.maps.shape == (2, 3, 6, 6)
