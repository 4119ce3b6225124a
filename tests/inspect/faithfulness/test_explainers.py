"""Heat-maps by one list of names."""

import pytest
import torch
from torch import nn

from cutaway.errors import InspectionError, NetworkError
from cutaway.inspect.attribution import attribute
from cutaway.inspect.class_activation import class_activation_maps
from cutaway.inspect.faithfulness import HEATMAP_METHODS, explainer


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(True),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()


@pytest.mark.parametrize("method", [name for name in HEATMAP_METHODS if name != "attention-rollout"])
def test_each_method_gives_what_its_own_function_gives(method, network):
    pictures, classes = torch.randn(3, 3, 12, 12), torch.tensor([0, 3, 1])
    found = explainer(method, at_a_time=2)(network, pictures, classes)
    if "cam" in method and method != "guided-grad-cam":
        wanted = class_activation_maps(network, pictures, method, class_index=classes).maps
    else:
        wanted = attribute(network, pictures, method, classes).heatmap
    assert len(found) == 3
    assert torch.allclose(found, wanted, atol=1e-5)


def test_a_target_layer_and_a_baseline_are_passed_on(network):
    pictures, classes = torch.randn(1, 3, 12, 12), torch.tensor([0])
    for method in ("grad-cam", "guided-grad-cam"):
        first, last = (explainer(method, target_layer=name)(network, pictures, classes) for name in ("1", "3"))
        assert not torch.allclose(first, last)
    mean, blur = (explainer("occlusion", baseline=kind)(network, pictures, classes) for kind in ("mean", "blur"))
    assert not torch.allclose(mean, blur)


def test_each_network_and_size_has_its_own_layer(network):
    deeper = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 3, 3), nn.ReLU(), *network)
    explain, classes = explainer("grad-cam"), torch.tensor([0])
    for net in (network, deeper.eval(), network):
        for side in (12, 20):
            pictures = torch.randn(1, 3, side, side)
            wanted = class_activation_maps(net, pictures, "grad-cam", class_index=classes).maps
            assert torch.equal(explain(net, pictures, classes), wanted)


def test_what_cannot_be_had_is_told(network):
    with pytest.raises(InspectionError, match="no method 'magic'"):
        explainer("magic")
    with pytest.raises(NetworkError, match="no layer 'nowhere'"):
        explainer("grad-cam", target_layer="nowhere")(network, torch.randn(1, 3, 12, 12), torch.tensor([0]))
