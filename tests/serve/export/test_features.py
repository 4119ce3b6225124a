"""Feature maps as further outputs: of which layers, in which layout, with and without a heat-map."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from cutaway.errors import ExportError, NetworkError
from cutaway.hooks import capture
from cutaway.preprocessing import Preprocessing
from cutaway.serve import Classifier
from cutaway.serve.export import export_module
from cutaway.serve.export.features import find_feature_layers

SHAPE = (3, 16, 12)
SPEC = Preprocessing(size=SHAPE[1:], mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


class Tokens(nn.Module):
    """A map as tokens behind a class token, and back to one row per picture."""

    def __init__(self):
        super().__init__()
        self.tokens, self.norm = nn.Identity(), nn.LayerNorm(6)
        self.twice, self.pair, self.unused = nn.Identity(), Pair(), nn.Identity()

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        x = self.norm(self.tokens(torch.cat([x.mean(1, keepdim=True), x], 1)))
        return self.pair(self.twice(self.twice(x.mean(1))))[0]


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(inplace=True), Tokens(), nn.Linear(6, 3)
    ).eval()


@pytest.fixture(scope="module")
def pictures():
    noise = np.random.default_rng(0)
    return [noise.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((16, 12), (40, 30), (9, 20))]


@pytest.mark.parametrize(("explain", "form"), [(True, "pixels"), (False, "float")])
def test_the_file_gives_what_the_layers_return(network, pictures, tmp_path, explain, form):
    out, names = tmp_path / "x.onnx", ["0", "2.norm", "3"]
    result = export_module(
        network, SPEC, list("abc"), out, images=pictures, explain=explain, target_layer="0" if explain else None,
        layers=names, input_form=form,
    )  # fmt: skip
    assert result.metadata.verification.thresholds["feature_difference"] == 1e-3
    described = [(each.output, each.layer, each.layout, each.shape) for each in result.metadata.features]
    assert described == [
        ("features.0", "0", "maps", (6, 8, 6)),
        ("features.2.norm", "2.norm", "maps", (6, 8, 6)),
        ("features.3", "3", "as it is", (3,)),
    ]
    outputs = {node.name: (node.type, node.shape[1:]) for node in ort.InferenceSession(out).get_outputs()}
    assert outputs["features.2.norm"] == ("tensor(float)", [6, 8, 6])
    classifier = Classifier(out)
    assert classifier(pictures)[0].features == {}
    predictions = classifier(pictures, features=True)
    inputs = torch.from_numpy(SPEC.normalise(np.stack([SPEC.picture(picture) for picture in pictures])))
    with capture(network, names) as captured, torch.no_grad():
        logits = network(inputs)
    # The first layer's before the ReLU that works in place; the norm's without the class token, as a map.
    expected = {
        "0": captured["0"],
        "2.norm": captured["2.norm"][:, 1:].transpose(1, 2).unflatten(2, (8, 6)),
        "3": logits,
    }
    assert captured["0"].min() < 0
    for number, prediction in enumerate(predictions):
        assert list(prediction.features) == names
        for name, values in prediction.features.items():
            np.testing.assert_allclose(values, expected[name][number], atol=1e-5)


@pytest.mark.parametrize(
    ("names", "kind", "message"),
    [
        (["2.nrm"], NetworkError, "no layer '2.nrm'"),
        ([""], NetworkError, "no layer ''"),
        (["0", "0"], ExportError, "named twice"),
        (["2.twice"], ExportError, "is called 2 times"),
        (["2.unused"], ExportError, "is never called"),
        (["2.pair"], ExportError, "returns a tuple"),
    ],
)
def test_layers_that_cannot_be_outputs_are_refused_in_words(network, names, kind, message):
    with pytest.raises(kind, match=message) as caught:
        find_feature_layers(network, SHAPE, names)
    if kind is NetworkError and names != [""]:
        assert "2.norm" in caught.value.hint
    assert not any(module._forward_hooks for module in network.modules())
