"""Networks with each activation and norm explain themselves in the file as in PyTorch."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from cutaway.inspect.class_activation import grad_cam
from cutaway.networks import NetworkSpec, build
from cutaway.networks.named_layers import ACTIVATIONS
from cutaway.preprocessing import Preprocessing
from cutaway.serve.export import compare_heatmaps, export_module

# Every activation and every norm at least once, in networks whose target layer lies before some of them.
VARIANTS = [
    ("lenet5", {"activation": "leaky-relu", "norm": "batch"}),
    ("lenet5", {"activation": "prelu", "norm": "layer", "dropout": 0.3}),
    ("fashion-cnn", {"activation": "elu", "norm": "instance"}),
    ("fashion-cnn", {"activation": "gelu", "norm": "group", "dropout": 0.3}),
    ("alexnet-small", {"activation": "silu", "width": 8}),
    ("alexnet-small", {"activation": "selu", "norm": "layer", "width": 8}),
    ("lenet5", {"activation": "mish", "norm": "instance"}),
    ("lenet5", {"activation": "hardswish", "norm": "group"}),
    ("fashion-cnn-bn", {"activation": "softplus"}),
    ("resnet-small", {"activation": "sigmoid", "norm": "group", "width": 4}),
    ("resnet-small", {"activation": "tanh", "norm": "none", "width": 4}),
    ("fashion-cnn", {"activation": "relu", "norm": "layer"}),
]


def test_none_is_left_out():
    assert {arguments["activation"] for _, arguments in VARIANTS} == set(ACTIVATIONS)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [*VARIANTS[:3], *(pytest.param(*variant, marks=pytest.mark.slow) for variant in VARIANTS[3:])],
    ids=lambda value: "-".join(map(str, dict(value).values())) if isinstance(value, dict) else value,
)
def test_the_file_explains_itself_as_pytorch_does(name, arguments, tmp_path):
    torch.manual_seed(0)
    network = build(NetworkSpec(name=name, num_classes=5, input_shape=(1, 28, 28), arguments=arguments))
    spec = Preprocessing(size=(28, 28), color="grey", mean=(0.3,), std=(0.3,))
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (28, 28, 1)).repeat(3, 2).astype(np.uint8) for _ in range(4)]
    inputs = torch.from_numpy(spec.normalise(np.stack([spec.picture(picture) for picture in pictures])))
    _give_it_answers(network, inputs)
    result = export_module(network, spec, list("abcde"), tmp_path / "x.onnx", images=pictures, explain=True)
    session = ort.InferenceSession(result.path)
    expected = grad_cam(network, inputs, result.metadata.target_layer, [-1, 1, 2, 3])
    assert expected.maps.amax() > 0
    for number, picture in enumerate(pictures):
        feeds = {"images": picture[None], "class_index": np.array([[-1, 1, 2, 3][number]])}
        logits, heatmap = session.run(["logits", "heatmap"], feeds)
        np.testing.assert_allclose(logits[0], expected.logits[number], atol=1e-4)
        correlations, differences = compare_heatmaps(heatmap, expected.maps[number : number + 1].numpy())
        assert differences[0] < 1e-3
        assert not correlations[0] < 0.9999


def _give_it_answers(network, inputs):
    """Random weights give nearly the same answer to every picture; these differ."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.2)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(inputs)
    network.eval()
