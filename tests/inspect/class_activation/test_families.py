"""Every torchvision classifier up to 100 M parameters, and one of each family above, explained by default."""

from __future__ import annotations

import resource
import sys

import pytest
import torch
import torchvision
from torch import nn

from cutaway.inspect import class_activation_maps
from cutaway.networks.target_layers import find_target_layer

FEW = ["alexnet", "densenet121", "googlenet", "mobilenet_v3_small", "squeezenet1_1", "swin_t", "vit_b_32"]
LARGE = ["convnext_large", "efficientnet_v2_l", "regnet_y_32gf", "resnext101_64x4d", "swin_b", "vgg16", "vit_l_32"]
LARGE += ["wide_resnet101_2"]


def names() -> list[str]:
    found = []
    for name in torchvision.models.list_models(module=torchvision.models):
        weights = torchvision.models.get_model_weights(name)
        parameters = min(weight.meta["num_params"] for weight in weights)
        if parameters <= 100e6 or name in LARGE:
            found.append(name)
    return found


def built(name: str) -> tuple[nn.Module, int]:
    """With weights that let the classes differ: torchvision starts some heads and scales at zero."""
    torch.manual_seed(0)
    keywords = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network = torchvision.models.get_model(name, weights=None, num_classes=7, **keywords)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    side = 299 if name.startswith("inception") else 224
    # Nor do its batch norms know the statistics of random weights, through which deep networks fall silent.
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    if norms:
        with torch.no_grad():
            network(torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2)))
    return network, side


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*FEW, *(pytest.param(name, marks=pytest.mark.wide) for name in names() if name not in FEW)]
)
def test_every_model_of_torchvision_is_explained_by_default(name: str) -> None:
    network, side = built(name)
    inputs = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    # Of all classes, so that something speaks for one of them.
    found = class_activation_maps(network, inputs, class_index=[list(range(7))])
    height, width = found.maps.shape[2:]
    assert height == width
    assert 6 <= height <= 32
    assert found.maps.isfinite().all()
    assert found.has_evidence.any()
    # Class by class another map: it is no picture of the layer alone.
    assert (found.maps[0, 0] - found.maps[0, 1:]).abs().amax((1, 2)).max() > 0
    # And what changes the map lies in the maps: the gradient at the default layer is nowhere cut off.
    assert find_target_layer(network, (3, side, side)) == found.target_layer
    assert network.training
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    assert peak < 12


@pytest.mark.wide
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "convnext_tiny", "swin_t", "vit_b_32", "maxvit_t"])
@pytest.mark.parametrize("method", ["grad-cam++", "hirescam", "layercam", "xgrad-cam", "eigen-cam", "ablation-cam"])
def test_every_kind_of_layout_by_other_methods(name: str, method: str) -> None:
    network, side = built(name)
    inputs = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    found = class_activation_maps(network, inputs, method, class_index=[list(range(7))], relu=False)
    assert found.maps.shape == (1, 7, 7, 7)
    assert found.maps.isfinite().all()
    assert found.maps.abs().amax() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_b_16", "vit_b_32"])
def test_rollout_of_torchvisions_vision_transformers(name: str) -> None:
    network, side = built(name)
    found = class_activation_maps(network, torch.randn(2, 3, side, side), "attention-rollout")
    assert found.maps.shape == (2, side // network.patch_size, side // network.patch_size)
    # The class token keeps the rest of the whole for itself.
    assert ((found.maps.sum((1, 2)) > 0.5) & (found.maps.sum((1, 2)) < 1)).all()
