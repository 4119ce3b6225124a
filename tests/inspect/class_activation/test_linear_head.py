from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from cutaway.errors import InspectionError
from cutaway.inspect import class_activation_maps


def gap_network(inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, 5)
    )


PICTURES = torch.randn(2, 3, 10, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("inplace", [False, True])
def test_cam_worked_out_by_hand(inplace: bool) -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))
        network[4].weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 2.0]]))
    picture = torch.tensor([[[[4.0, -8.0], [0.0, 12.0]]]])
    # Maps [4 0; 0 12] and [0 8; 0 0] by weights 1 and -1.
    signed = class_activation_maps(network, picture, "cam", class_index=0, relu=False)
    assert signed.maps.tolist() == [[[4, -8], [0, 12]]]
    assert class_activation_maps(network, picture, "cam", class_index=0).maps.tolist() == [[[4, 0], [0, 12]]]
    against = class_activation_maps(network, picture, "cam", class_index=0, against=1, relu=False)
    assert against.maps.tolist() == [[[4, -24], [0, 12]]]


@pytest.mark.parametrize("inplace", [False, True])
def test_on_such_a_head_four_methods_are_one_up_to_the_number_of_positions(inplace: bool) -> None:
    network = gap_network(inplace)
    asked = {"class_index": [[4, 0], [2, 3]], "relu": False}
    cam = class_activation_maps(network, PICTURES, "cam", **asked)
    for name in ("grad-cam", "hirescam", "xgrad-cam"):
        other = class_activation_maps(network, PICTURES, name, **asked)
        assert torch.allclose(other.maps * 8 * 10, cam.maps, atol=1e-5)
    # The mean of a map is the class's logit without its bias.
    logits = cam.logits.gather(1, cam.class_index) - network[5].bias[cam.class_index]
    assert torch.allclose(cam.maps.mean((2, 3)), logits, atol=1e-5)


def test_a_channels_last_network_has_a_cam() -> None:
    network = torchvision.models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4], num_classes=5).eval()
    found = class_activation_maps(network, torch.randn(2, 3, 64, 64), "cam", class_index=3, relu=False)
    expected = found.logits[:, 3] - network.head.bias[3]
    assert torch.allclose(found.maps.mean((1, 2)), expected, atol=1e-5)


@pytest.mark.parametrize(
    "head",
    [
        [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 5)],
        [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 5)],
        [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5), nn.Softplus()],
        [nn.Flatten(), nn.Linear(640, 5)],
    ],
)
def test_any_other_head_is_refused(head: list[nn.Module]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), *head)
    with pytest.raises(InspectionError, match=r"one linear layer.*HiResCAM"):
        class_activation_maps(network, PICTURES, "cam")
    assert not any(module._forward_hooks for module in network.modules())
