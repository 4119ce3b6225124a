"""Networks that mix the pictures of a batch: each is explained as if it were alone."""

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.errors import InspectionError
from cutaway.inspect import class_activation_maps
from cutaway.inspect.attribution import METHODS as ATTRIBUTIONS
from cutaway.inspect.attribution import attribute
from cutaway.inspect.class_activation import METHODS, Smoothing
from cutaway.inspect.faithfulness import compare_methods
from cutaway.networks.target_layers import TargetLayer


class Mixing(nn.Module):
    """A CNN whose features are centred over the batch, by a norm or by itself."""

    def __init__(self, norm):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4, track_running_stats=False) if norm else nn.Identity()
        self.act = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 3)
        self.norm_ = norm

    def forward(self, x):
        x = self.norm(self.conv(x))
        x = self.act(x if self.norm_ else x - 0.5 * x.mean(0, keepdim=True))
        return self.fc(self.pool(x).flatten(1))


@pytest.fixture(params=[True, False], ids=["batch-norm", "by-itself"])
def mixing(request):
    torch.manual_seed(1)
    return Mixing(request.param)


@pytest.fixture
def pictures():
    return torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(2))


CAMS = [name for name in METHODS if name != "attention-rollout"]


@pytest.mark.parametrize("method", CAMS)
def test_maps_of_a_batch_are_those_of_each_picture_alone(method, mixing, pictures):
    together = class_activation_maps(mixing, pictures, method, "act", [2, 0, 1])
    each = [class_activation_maps(mixing, pictures[i : i + 1], method, "act", [2, 0, 1][i]) for i in range(3)]
    assert torch.allclose(together.maps, torch.cat([one.maps for one in each]), atol=1e-6)
    assert torch.allclose(together.logits, torch.cat([one.logits for one in each]), atol=1e-6)
    assert together.class_index.tolist() == [2, 0, 1]
    assert together.alone is not None
    # Which is not what the batch would have given.
    with torch.no_grad():
        assert not torch.allclose(mixing(pictures), together.logits, atol=1e-3)


def test_several_classes_each_and_views_are_kept_apart_too(mixing, pictures):
    asked = {"target_layer": "act", "smooth": Smoothing(scales=())}
    wanted = torch.tensor([[0, 1], [1, 2], [2, 0]])
    found = class_activation_maps(mixing, pictures, class_index=wanted, against=[2, 0, 1], **asked)
    assert found.maps.shape == (3, 2, 6, 6)
    own = class_activation_maps(mixing, pictures[1:2], class_index=wanted[1:2], against=0, **asked)
    assert torch.allclose(found.maps[1], own.maps[0], atol=1e-6)
    assert found.against.tolist() == [[2, 2], [0, 0], [1, 1]]
    assert class_activation_maps(mixing, pictures, top=2).maps.shape == (3, 2, 6, 6)


UNFIT = [
    [0, 1],
    [0, 1, 2, 0],
    [0],
    [[0, 1], [1, 2]],
    [],
    [0.5, 1, 2],
    "shirt",
    [[0], [1, 2], [0]],
    [0, 9, 1],
    [10**30] * 3,
]


@pytest.mark.parametrize("asked", UNFIT, ids=str)
def test_classes_that_fit_no_batch_are_refused_as_of_networks_that_do_not_mix(asked, mixing, pictures):
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    for question in ({"class_index": asked}, {"class_index": 1, "against": asked}):
        said = []
        for network in (plain, mixing):
            with pytest.raises(InspectionError) as refusal:
                class_activation_maps(network, pictures, **question)
            said.append(str(refusal.value))
        assert said[0] == said[1]
    with pytest.raises(InspectionError):
        attribute(mixing, pictures, "saliency", asked)


def test_score_cam_masks_one_copy_at_a_time(mixing, pictures):
    one = pictures[:1]
    found = class_activation_maps(mixing, one, "score-cam", "act", 1)
    mixing.eval()
    kept = {}
    handle = mixing.act.register_forward_hook(lambda *call: kept.update(maps=call[2]))
    with torch.no_grad():
        mixing(one)
        handle.remove()
        (maps,) = kept["maps"]
        scores = []
        for channel in maps:
            low, high = channel.min(), channel.max()
            flat = high - low < 1e-6
            scores.append(-torch.inf if flat else mixing(one * ((channel - low) / (high - low)))[0, 1].item())
    weights = torch.tensor(scores).softmax(0).nan_to_num()
    assert torch.allclose(found.maps[0], torch.einsum("c,chw->hw", weights, maps).relu(), atol=1e-5)


@pytest.mark.parametrize("method", [name for name in ATTRIBUTIONS if name != "guided-grad-cam"])
def test_attributions_of_a_batch_are_those_of_each_picture_alone(method, mixing, pictures):
    options = {"samples": 3} if method == "smooth-grad" else {}
    together = attribute(mixing, pictures, method, [2, 0, 1], **options)
    # The noise of a picture follows from its place in the batch, so the first one is compared.
    own = attribute(mixing, pictures[:1], method, [2], **options)
    assert torch.allclose(together.attributions[:1], own.attributions, atol=1e-5)
    assert together.alone is not None
    if method == "occlusion":
        assert torch.allclose(own.attributions, attribute(mixing, pictures[:1], method, [2], at_a_time=1).attributions)


def test_networks_that_do_not_mix_run_as_ever():
    torch.manual_seed(0)
    runs, layer = [], TargetLayer("2", "nchw")
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    plain.register_forward_hook(lambda module, args, output: runs.append(len(args[0])))
    pictures = torch.randn(5, 1, 6, 6)
    for _ in range(2):
        found = class_activation_maps(plain, pictures, target_layer=layer)
        assert found.alone is None
    assert sorted(runs) == [1, 2, 5, 5]  # noticed once, by one picture and by two


def test_faithfulness_is_measured_one_by_one_and_says_so(mixing, pictures):
    def explain(given, classes):
        return given[:, 0].abs()

    found = compare_methods(mixing, pictures, {"own": explain}, 0, metrics=["deletion", "road", "drop"])
    single = compare_methods(mixing, pictures, {"own": explain}, 0, metrics=["deletion", "road", "drop"], at_a_time=1)
    np.testing.assert_allclose(found.values[0].numpy(), single.values[0].numpy(), atol=1e-6)
    assert "batch" in found.alone or "beside" in found.alone
