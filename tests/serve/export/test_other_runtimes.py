"""The float form in a runtime that shares no code with ONNX Runtime: onnx's reference evaluator, in plain numpy."""

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torchvision.models.vision_transformer import VisionTransformer

from cutaway.inspect.class_activation import class_activation_maps
from cutaway.networks import NetworkSpec, build
from cutaway.serve.export import export_module


def ours(name, **arguments):
    return build(NetworkSpec(name=name, num_classes=10, input_shape=(1, 28, 28), arguments=arguments))


def transformer():
    small = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32, "num_classes": 10}
    network = VisionTransformer(image_size=28, patch_size=7, **small)
    network.conv_proj = torch.nn.Conv2d(1, 16, 7, 7)
    torch.nn.init.normal_(network.heads.head.weight)
    return network


NETWORKS = {
    "lenet5": lambda: ours("lenet5"),
    "batch norm and residuals": lambda: ours("resnet-small", width=4),
    "group norm and silu": lambda: ours("alexnet-small", width=4, norm="group", activation="silu"),
    "transformer": transformer,
}


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("lenet5", "grad-cam"),
        ("lenet5", "layercam"),
        ("batch norm and residuals", "grad-cam"),
        pytest.param("group norm and silu", "grad-cam", marks=pytest.mark.slow),
        pytest.param("transformer", "grad-cam", marks=pytest.mark.slow),
    ],
)
def test_the_float_form_answers_and_explains_as_pytorch(name, method, fashion_preprocessing, pictures, tmp_path):
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    result = export_module(
        network,
        fashion_preprocessing,
        list("abcdefghij"),
        tmp_path / "float.onnx",
        images=pictures,
        explain=True,
        method=method,
        input_form="float",
        temperature=2.0,
    )
    inputs = fashion_preprocessing.normalise(np.stack(pictures[:3]))
    classes = np.array([-1, 2, 7])
    outputs = ["logits", "probabilities", "heatmap", "heatmap_faint"]
    logits, probabilities, heatmaps, faint = ReferenceEvaluator(str(result.path)).run(
        outputs, {"images": inputs, "class_index": classes}
    )
    expected = class_activation_maps(
        network, torch.from_numpy(inputs), method, result.metadata.target_layer, torch.from_numpy(classes)
    )
    np.testing.assert_allclose(logits, expected.logits, atol=1e-4)
    np.testing.assert_allclose(probabilities, (expected.logits / 2).softmax(1), atol=1e-5)
    largest = float(expected.maps.max())
    np.testing.assert_allclose(heatmaps, expected.maps, atol=1e-3 * largest)
    assert largest > 1e-5
    sizes = np.maximum(np.abs(logits).max(1), 1)
    assert np.array_equal(faint, heatmaps.max((1, 2)) * heatmaps[0].size < 1e-6 * sizes)
    assert faint.sum() <= 1
