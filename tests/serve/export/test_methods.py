"""Heat-maps by each method, from the option to the classifier, and the flag of those that say nothing."""

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.errors import ExportError
from cutaway.inspect.class_activation import class_activation_maps
from cutaway.preprocessing import Preprocessing
from cutaway.serve import Classifier
from cutaway.serve.export import METHODS, export_module
from cutaway.serve.export.methods import find_method

SPEC = Preprocessing(size=(12, 12), mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3))
NOISE = np.random.default_rng(0)
PICTURES = [NOISE.integers(0, 256, (12, 12, 3), dtype=np.uint8) for _ in range(4)]
INPUTS = torch.from_numpy(SPEC.normalise(np.stack(PICTURES)))


def network(norm: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3), norm, nn.ReLU(inplace=True), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, 4)).eval()


@pytest.mark.parametrize("name", ["grad-cam++", "hirescam", "layercam"])
def test_the_file_explains_by_that_method(name, tmp_path):
    made = network(nn.Identity())
    out = tmp_path / "x.onnx"
    result = export_module(
        made, SPEC, list("abcd"), out, images=PICTURES, method=name, target_layer="0", input_form="float"
    )
    assert (result.metadata.method, result.metadata.title) == (name, METHODS[name].title)
    predictions = Classifier(out)(PICTURES, class_index=[0, 1, 2, 3])
    expected = class_activation_maps(made, INPUTS, name, "0", [0, 1, 2, 3]).maps
    plain = class_activation_maps(made, INPUTS, "grad-cam", "0", [0, 1, 2, 3]).maps
    for number, prediction in enumerate(predictions):
        assert not prediction.heatmap_faint
        np.testing.assert_allclose(prediction.heatmap, expected[number], atol=1e-5 * float(expected.max()))
    assert (expected - plain).abs().max() > 0.01 * expected.max()


def test_a_map_that_is_made_of_rounding_comes_empty_and_with_a_flag(tmp_path):
    # The norm takes each channel's mean away, so the gradients below it add up to nothing but rounding.
    out = tmp_path / "x.onnx"
    export_module(
        network(nn.InstanceNorm2d(6)), SPEC, list("abcd"), out, images=PICTURES, target_layer="0", input_form="float"
    )
    for prediction in Classifier(out)(PICTURES):
        assert prediction.heatmap_faint
        assert not prediction.heatmap.any()


def test_methods_are_known_by_every_spelling_and_others_refused():
    assert find_method("GradCAM++") is METHODS["grad-cam++"]
    with pytest.raises(ExportError, match="no method 'gradcamm'") as caught:
        find_method("gradcamm")
    assert "hirescam" in caught.value.hint
    with pytest.raises(ExportError, match="Score-CAM cannot be computed inside an ONNX file"):
        find_method("score-cam")
