"""Every kind of head: one network of each torchvision family with its default target layer, on a photo."""

import copy

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torchvision
from skimage import data
from torch import nn

from cutaway.inspect.class_activation import grad_cam
from cutaway.preprocessing import Preprocessing
from cutaway.serve.export import compare_heatmaps, export_module

FAST = ["resnet18", "alexnet-small"]
SLOW = [
    "mobilenet_v3_small",
    "efficientnet_b0",
    "vgg11",
    "densenet121",
    "convnext_tiny",
    "squeezenet1_1",
    "shufflenet_v2_x1_0",
    "mnasnet0_5",
    "regnet_y_400mf",
    "googlenet",
    "inception_v3",
    "vit_b_16",
    "swin_t",
    "maxvit_t",
]
SIZES = {"inception_v3": 160, "vit_b_16": 224, "maxvit_t": 224}
PHOTOS = [data.chelsea(), data.coffee(), data.astronaut(), data.rocket()]


def alexnet_small() -> nn.Module:
    """AlexNet's kind of head, an adaptive pooling that pools nothing and linear layers, without its 57 million."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 7, stride=4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d((6, 6)),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(864, 32),
        nn.ReLU(inplace=True),
        nn.Linear(32, 10),
    )


@pytest.mark.parametrize("name", FAST + [pytest.param(name, marks=pytest.mark.slow) for name in SLOW])
def test_the_file_explains_itself_as_pytorch_does(name, tmp_path):
    torch.manual_seed(0)
    size = SIZES.get(name, 64)
    network = alexnet_small() if name == "alexnet-small" else torchvision.models.get_model(name, num_classes=10)
    spec = Preprocessing(
        size=(size, size), resize="shorter", resize_to=size + 8, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    inputs = torch.from_numpy(spec.normalise(np.stack([spec.picture(photo) for photo in PHOTOS])))
    _give_it_answers(network, inputs)

    result = export_module(network, spec, list("abcdefghij"), tmp_path / "x.onnx", images=PHOTOS, explain=True)

    session = ort.InferenceSession(result.path)
    with torch.no_grad():
        exact = copy.deepcopy(network).double()(inputs.double())
        rounding = (network(inputs) - exact).abs().max().item()
    expected = grad_cam(network, inputs, result.metadata.target_layer, [-1, 3, 5, 7])
    assert expected.maps.amax() > 0
    for n, photo in enumerate(PHOTOS):
        feeds = {"images": photo[None], "class_index": np.array([[-1, 3, 5, 7][n]])}
        logits, _, heatmap = session.run(None, feeds)
        np.testing.assert_allclose(logits[0], expected.logits[n], atol=1e-5 + 3 * rounding)
        correlations, differences = compare_heatmaps(heatmap, expected.maps[n : n + 1].numpy())
        assert differences[0] < 1e-3
        assert not correlations[0] < 0.9999
    assert result.figures.heatmap_share == 1


def _give_it_answers(network: nn.Module, inputs: torch.Tensor) -> None:
    """Random weights alone leave BatchNorm's statistics far off and some heads at zero: no map would be seen."""
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train().momentum = None
        if isinstance(module, nn.Linear) and module.out_features == 10:
            nn.init.normal_(module.weight, std=0.1)
    with torch.no_grad():
        network(inputs)
    network.eval()
