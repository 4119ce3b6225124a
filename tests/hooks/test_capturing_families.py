"""Capture of everything in networks that are no classifiers: it changes no answer and leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.hooks import capture, untouched
from cutaway.hooks.structures import tensors_in

PICTURE = torch.linspace(0, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)])
        self.bottom = nn.Conv2d(16, 16, 3, padding=1)
        self.up = nn.ModuleList([nn.ConvTranspose2d(16, 16, 2, 2), nn.ConvTranspose2d(32, 8, 2, 2)])
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for conv in self.down:
            x = F.relu(conv(x), inplace=True)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = torch.cat([up(x), skip], 1)
        return self.head(x)


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(12, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        found, (hidden, _) = self.lstm(self.embedding(tokens))
        return self.head(found) + hidden.sum()


def generator() -> nn.Module:
    """DCGAN's, Radford, Metz and Chintala 2016, with fewer channels."""
    layers: list[nn.Module] = []
    for wide, narrow in ((16, 32), (32, 16), (16, 8)):
        layers += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(8, 3, 4, 2, 1, bias=False), nn.Tanh())


def segmentation(name: str) -> Callable[[], nn.Module]:
    return lambda: torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=4)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Any, str]] = {
    "fcn": (segmentation("fcn_resnet50"), PICTURE, "backbone.layer4.2.conv3"),
    "deeplab": (segmentation("deeplabv3_resnet50"), PICTURE, "classifier.0"),
    "lraspp": (segmentation("lraspp_mobilenet_v3_large"), PICTURE, ":interpolate#0"),
    "faster-rcnn": (segmentation("fasterrcnn_mobilenet_v3_large_320_fpn"), [PICTURE[0]], "backbone.fpn"),
    "unet": (UNet, PICTURE, ":cat#1"),
    "dcgan": (generator, torch.linspace(-1, 1, 16).reshape(1, 16, 1, 1), "10"),
    "lstm": (Tagger, torch.arange(10).reshape(2, 5), "lstm"),
}


def same(a: Any, b: Any) -> bool:
    pairs = list(zip(tensors_in(a), tensors_in(b), strict=True))
    return all(torch.allclose(one, other, rtol=1e-4, atol=1e-5) for one, other in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_everything_is_captured_and_nothing_changed(name: str) -> None:
    make, argument, layer = NETWORKS[name]
    torch.manual_seed(0)
    network = make().eval()
    with torch.no_grad():
        expected = network(argument)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    for gradients in (False, True):
        with untouched(network), capture(network, ["*", "*:*"], inputs=True, gradients=gradients) as captured:
            output = network(argument)
        assert same(output, expected)
        assert len(captured.operations) >= (1 if name != "dcgan" else 0)
        called = [call for call in captured.all_calls if call.layer == layer]
        assert len(called) == 1
        assert tensors_in(called[0].output)
    wanted = [tensor for tensor in tensors_in(output) if tensor.requires_grad]
    if name != "faster-rcnn":
        found = captured.gradients(sum(tensor.sum() for tensor in wanted), [layer])
        assert any(bool(gradient.any()) for gradient in tensors_in(found[layer][0]))
    with capture(network, keep="stats") as captured, torch.inference_mode():
        network(argument)
    assert captured.statistics
    assert all(found.is_finite for found in captured.statistics.values())
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
