from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.models import VisionTransformer

from cutaway.inspect import class_activation_maps
from cutaway.inspect.class_activation import ablation
from cutaway.networks.target_layers import find_target_layer


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.trunk = nn.Sequential(nn.Conv2d(3, 5, 3, 2), nn.ReLU(True))
        self.after = nn.ReLU(True)
        self.head = nn.Linear(180, 4)

    def head_of(self, maps: Tensor, count: int) -> Tensor:
        return self.head((self.after(maps) ** 2).flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.head_of(self.trunk(images), len(images))


class Counting(Plain):
    """Shapes its features by the number of pictures that went in."""

    def head_of(self, maps: Tensor, count: int) -> Tensor:
        return self.head((self.after(maps) ** 2).view(count, -1))


@pytest.mark.parametrize("kind", [Plain, Counting])
def test_ablation_cam_by_brute_force(kind: type[Plain], monkeypatch) -> None:
    monkeypatch.setattr(ablation, "MOST_VALUES", 3 * 180)
    monkeypatch.setattr(ablation, "AT_A_TIME", 2)
    net, pictures = kind().double().eval(), torch.randn(2, 3, 14, 14, dtype=torch.float64)
    classes, others = [[0, 3], [1, 2]], [[1, 1], [0, 0]]
    found = class_activation_maps(net, pictures, "ablation-cam", "trunk", classes)
    rather = class_activation_maps(net, pictures, "ablation-cam", "trunk", classes, against=others)
    for sample in range(2):
        maps = net.trunk(pictures[sample][None])
        for number in range(2):
            a, b = classes[sample][number], others[sample][number]
            for result, row in ((found, [a]), (rather, [a, b])):

                def score(at: Tensor, row: list[int] = row) -> Tensor:
                    logits = net.head_of(at.clone(), 1)[0]
                    return logits[row[0]] if len(row) == 1 else logits[row[0]] - logits[row[1]]

                expected = torch.zeros_like(maps[0, 0])
                for channel in range(5):
                    without = maps.clone()
                    without[:, channel] = 0
                    expected += (score(maps) - score(without)) / score(maps).abs() * maps[0, channel]
                assert expected.abs().max() > 0
                assert torch.allclose(result.maps[sample, number], expected.relu())


def test_a_negative_logit_does_not_turn_the_map_over() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1))
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), (1, 0, 1, -10), strict=True):
            parameter.fill_(value)
    # Mean 2, logit 2 - 10 = -8, without the channel -10: it raises the logit by 2, a quarter of its size.
    found = class_activation_maps(network, torch.tensor([[[[0.0, 4.0]]]]), "ablation-cam", class_index=0)
    assert found.maps.tolist() == [[[0, 1]]]


def test_tokens_lose_a_channel_at_the_patches_alone() -> None:
    torch.manual_seed(0)
    vit = VisionTransformer(16, 8, 2, 2, 8, 16, num_classes=3).eval()
    nn.init.normal_(vit.heads.head.weight)
    pictures = torch.randn(1, 3, 16, 16)
    target = find_target_layer(vit, (3, 16, 16))
    found = class_activation_maps(vit, pictures, "ablation-cam", target, class_index=1, relu=False)
    kept: list[Tensor] = []

    def without(channel: int | None):
        def hook(module: nn.Module, args: object, output: Tensor) -> Tensor:
            output = output.clone()
            kept.append(output.clone())
            if channel is not None:
                output[:, 1:, channel] = 0
            return output

        handle = vit.get_submodule(target.name).register_forward_hook(hook)
        with torch.no_grad():
            score = vit(pictures)[0, 1].item()
        handle.remove()
        return score

    whole = without(None)
    weights = torch.tensor([(whole - without(channel)) / abs(whole) for channel in range(8)])
    expected = (weights * kept[0][0, 1:]).sum(1).reshape(2, 2)
    assert torch.allclose(found.maps[0], expected, atol=1e-5)


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
    net = Plain().eval()
    with _Float64OnTheCpuAlone() as mode:
        class_activation_maps(net, torch.randn(2, 3, 14, 14), "ablation-cam", "trunk", 0)
    assert mode.converted
