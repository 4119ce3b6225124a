"""What can be asked of every method: several classes, one against another, several layers, smoother maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.errors import InspectionError, NetworkError
from cutaway.inspect import Smoothing, class_activation_maps, grad_cam
from cutaway.inspect.class_activation import METHODS, find_method, no_evidence
from cutaway.inspect.class_activation.smoothing import zoomed
from cutaway.networks.target_layers import TargetLayer

EVERYWHERE = [name for name in METHODS if name != "attention-rollout"]
GRADIENT = [name for name, method in METHODS.items() if method.needs_gradients]


def network(inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(inplace),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


PICTURES = torch.randn(3, 3, 14, 18, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("method", EVERYWHERE)
def test_in_place_operations_change_no_map_and_no_trace_is_left(method: str) -> None:
    # CAM wants the maps that are averaged; Score-CAM's weights are positive, so before a ReLU its map may be empty.
    layer = "5" if method in ("cam", "score-cam") else "4"
    twin = network(True)
    before = {key: value.clone() for key, value in twin.state_dict().items()}
    asked = {"method": method, "target_layer": layer, "class_index": [0, 3, -1]}
    expected = class_activation_maps(network(), PICTURES, **asked)
    found = class_activation_maps(twin, PICTURES, **asked)
    assert found.has_evidence.any()
    assert torch.allclose(found.maps, expected.maps, atol=1e-6)
    assert found.method == method
    assert all(torch.equal(value, before[key]) for key, value in twin.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in twin.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in twin.parameters())


@pytest.mark.parametrize("method", EVERYWHERE)
def test_several_targets_at_once_are_what_each_is_alone(method: str) -> None:
    net = network()
    several = class_activation_maps(net, PICTURES, method, class_index=[[0, 4], [1, -1], [2, 3]])
    assert several.maps.shape == (3, 2, 4, 6)
    assert several.probabilities.shape == several.has_evidence.shape == (3, 2)
    for number, column in enumerate(([0, 1, 2], [4, -1, 3])):
        alone = class_activation_maps(net, PICTURES, method, class_index=column)
        assert torch.allclose(several.maps[:, number], alone.maps, atol=1e-6)
        assert torch.equal(several.class_index[:, number], alone.class_index)
        assert torch.allclose(several.probabilities[:, number], alone.probabilities)


def test_several_targets_take_one_forward_pass() -> None:
    net, calls = network(), []
    net[8].register_forward_hook(lambda module, args, output: calls.append(len(output)))
    target = TargetLayer("5", "nchw")
    class_activation_maps(net, PICTURES, "grad-cam", target, top=5)
    assert calls == [1, 2, 3]  # before the first batch, two passes that tell whether the network mixes pictures
    calls.clear()
    class_activation_maps(net, PICTURES, "grad-cam", target, top=5)
    assert calls == [3]


def test_top_classes_come_in_their_order() -> None:
    found = grad_cam(network(), PICTURES, top=3)
    assert torch.equal(found.class_index, found.logits.topk(3, 1).indices)
    assert found.maps.shape == (3, 3, 4, 6)
    with pytest.raises(InspectionError, match=r"top 6 of 5 .* Ask for 1 to 5"):
        grad_cam(network(), PICTURES, top=6)


@pytest.mark.parametrize("method", ["grad-cam", "hirescam", "xgrad-cam", "cam"])
def test_why_one_class_rather_than_another_is_the_difference_of_signed_maps(method: str) -> None:
    net = network()
    one, other = (
        class_activation_maps(net, PICTURES, method, class_index=label, relu=False).maps for label in (1, [4, 4, 0])
    )
    found = class_activation_maps(net, PICTURES, method, class_index=1, against=[4, 4, 0], relu=False)
    assert torch.allclose(found.maps, one - other, atol=1e-6)
    assert found.against is not None
    assert found.against.tolist() == [4, 4, 0]


def test_against_what_else_is_likeliest() -> None:
    found = grad_cam(network(), PICTURES, class_index=[[-1, 2]], against=-1)
    first, second = found.logits.topk(2, 1).indices.T
    assert found.against is not None
    assert torch.equal(found.against[:, 0], second)
    assert torch.equal(found.against[:, 1], torch.where(first == 2, second, first))


def test_questions_that_make_no_sense_are_told() -> None:
    net = network()
    with pytest.raises(InspectionError, match="Class 2 cannot be held against itself"):
        grad_cam(net, PICTURES, class_index=[1, 2, 3], against=2)
    with pytest.raises(InspectionError, match="no class 7"):
        grad_cam(net, PICTURES, against=7)
    with pytest.raises(InspectionError, match="2 classes a picture cannot be held against 3"):
        grad_cam(net, PICTURES, class_index=[[1, 2]], against=[[0, 3, 4]])
    with pytest.raises(InspectionError, match="must be integers"):
        grad_cam(net, PICTURES, class_index=[[1], [2, 3], [4]])
    with pytest.raises(InspectionError, match=r"for each of the 3 pictures"):
        grad_cam(net, PICTURES, class_index=torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(InspectionError, match=r"no method 'gradcamm'.*Did you mean grad-cam or"):
        class_activation_maps(net, PICTURES, "gradcamm")
    with pytest.raises(InspectionError, match="named twice"):
        grad_cam(net, PICTURES, ["5", "5"])
    with pytest.raises(InspectionError, match="no layer to read"):
        grad_cam(net, PICTURES, [])
    with pytest.raises(NetworkError, match="no layer 'conv'"):
        grad_cam(net, PICTURES, ["5", "conv"])
    with pytest.raises(InspectionError, match="'mean' or 'max'"):
        class_activation_maps(net, PICTURES, fusion="sum")
    with torch.inference_mode(), pytest.raises(InspectionError, match="LayerCAM needs gradients"):
        class_activation_maps(net, PICTURES, "layercam")


def test_methods_are_found_however_a_person_writes_them() -> None:
    assert [find_method(name).name for name in ("GradCAM++", "Grad-CAM", "hires_cam", "Attention rollout")] == [
        "grad-cam++",
        "grad-cam",
        "hirescam",
        "attention-rollout",
    ]


@pytest.mark.parametrize("method", [*GRADIENT, "eigen-cam", "ablation-cam"])
@pytest.mark.parametrize("fusion", ["mean", "max"])
def test_layers_are_fused_at_the_finest_size_each_by_its_own_strongest_point(method: str, fusion: str) -> None:
    net = network()
    both = class_activation_maps(net, PICTURES, method, ["5", "2"], 1, fusion=fusion)
    late, early = (class_activation_maps(net, PICTURES, method, layer, 1).maps for layer in ("5", "2"))
    assert [layer.name for layer in both.target_layers] == ["5", "2"]
    scaled = [each / each.amax((1, 2), keepdim=True).clamp_min(1e-30) for each in (late, early)]
    late = F.interpolate(scaled[0][:, None], (12, 16), mode="bilinear", align_corners=False)[:, 0]
    expected = (late + scaled[1]) / 2 if fusion == "mean" else torch.maximum(late, scaled[1])
    assert both.maps.shape == (3, 12, 16)
    assert torch.allclose(both.maps, expected, atol=1e-5)
    assert both.maps.max() <= 1


def test_gradients_at_a_layer_are_the_same_beside_a_later_one_and_with_frozen_weights() -> None:
    net = network(True)
    both = class_activation_maps(net, PICTURES, "grad-cam", ["2", "5"], 1)
    net.requires_grad_(False)
    assert torch.equal(class_activation_maps(net, PICTURES, "grad-cam", ["2", "5"], 1).maps, both.maps)


def test_an_empty_layer_stays_empty_in_a_fusion() -> None:
    net = network()
    with torch.no_grad():
        net[4].weight.zero_()
        net[4].bias.fill_(-1)
    found = class_activation_maps(net, PICTURES, "eigen-cam", ["5", "2"])
    assert found.maps.isfinite().all()
    assert 0.4 < found.maps.max() <= 0.5


def test_an_empty_map_has_a_sentence() -> None:
    net = network()
    nn.init.constant_(net[8].weight, -1.0)
    found = grad_cam(net, PICTURES)
    assert not found.has_evidence.any()
    assert no_evidence(found, "coat") == "no positive evidence at 5 for coat"
    fused = class_activation_maps(net, PICTURES, "layercam", ["4", "5"])
    assert no_evidence(fused, "coat", "shirt") == "no positive evidence at 4 and 5 for coat rather than shirt"


def test_smoothing_is_the_mean_of_views_mapped_back() -> None:
    net = network()
    plain = grad_cam(net, PICTURES, class_index=1).maps
    mirrored = grad_cam(net, PICTURES.flip(3), class_index=1).maps.flip(2)
    found = class_activation_maps(net, PICTURES, class_index=1, smooth=Smoothing(scales=()))
    assert torch.allclose(found.maps, (plain + mirrored) / 2, atol=1e-6)
    # A smaller copy's map is enlarged again about the centre.
    wide = torch.randn(3, 3, 14, 22)
    plain = grad_cam(net, wide, class_index=1).maps
    smaller = grad_cam(net, zoomed(wide, 0.5, padding="reflection"), class_index=1).maps
    back = F.interpolate(smaller[:, None, 1:3, 2:6], scale_factor=2, mode="bilinear", align_corners=False)[:, 0]
    found = class_activation_maps(net, wide, class_index=1, smooth=Smoothing(mirror=False, scales=(0.5,)))
    inner = (slice(None), slice(1, 3), slice(1, 7))
    assert torch.allclose(found.maps[inner], ((plain + back) / 2)[inner], atol=1e-5)
    # A larger copy saw the middle alone; its map counts there and nowhere else.
    found = class_activation_maps(net, wide, class_index=1, smooth=Smoothing(mirror=False, scales=(2.0,)))
    assert torch.allclose(found.maps[:, 0], plain[:, 0], atol=1e-6)
    assert not torch.allclose(found.maps[inner], plain[inner], atol=1e-4)


def test_every_view_explains_the_class_of_the_picture_itself() -> None:
    class Sided(nn.Module):
        """Says 0 where the left half is brighter, and 1 where the right half is."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1, bias=False)
            nn.init.ones_(self.conv.weight)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.conv(images)
            half = maps.shape[3] // 2
            return torch.stack([maps[..., :half].sum((1, 2, 3)), maps[..., half:].sum((1, 2, 3))], 1)

    picture = torch.zeros(1, 1, 4, 4)
    picture[..., 0] = 1
    found = class_activation_maps(Sided(), picture, "hirescam", smooth=Smoothing(scales=()))
    assert found.class_index.tolist() == [0]
    assert found.logits.tolist() == [[4, 0]]
    again = class_activation_maps(Sided(), picture, "hirescam", class_index=0, smooth=Smoothing(scales=()))
    assert torch.equal(found.maps, again.maps)


def test_a_constant_map_is_not_changed_by_smoothing() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    picture = torch.ones(1, 1, 16, 16)
    plain = class_activation_maps(net, picture, "hirescam", relu=False).maps
    assert torch.allclose(class_activation_maps(net, picture, "hirescam", relu=False, smooth=True).maps, plain)


def test_a_scale_out_of_reach_is_told() -> None:
    with pytest.raises(InspectionError, match=r"between 0\.5 and 2"):
        Smoothing(scales=(3.0,))


def test_wrapped_and_compiled_networks_give_the_same_maps() -> None:
    net = network().eval()
    expected = grad_cam(net, PICTURES, class_index=1)
    assert torch.allclose(grad_cam(nn.DataParallel(net), PICTURES, class_index=1).maps, expected.maps, atol=1e-6)
    compiled = torch.compile(net, backend="eager")
    with torch.no_grad():
        compiled(PICTURES)  # compiled before the hooks are there
    assert torch.allclose(grad_cam(compiled, PICTURES, class_index=1).maps, expected.maps, atol=1e-6)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.optim.swa_utils.AveragedModel, torch.compile])
@pytest.mark.parametrize("method", ["grad-cam", "ablation-cam"])
def test_layers_have_their_plain_names_whatever_the_network_is_wrapped_into(wrap, method: str) -> None:
    net = network().eval()
    expected = class_activation_maps(net, PICTURES, method, "5", class_index=1)
    wrapped = wrap(net)
    inside = "_orig_mod.5" if wrap is torch.compile else "module.5"
    for name in ("5", inside):
        found = class_activation_maps(wrapped, PICTURES, method, name, class_index=1)
        assert found.target_layer.name == "5"
        assert torch.allclose(found.maps, expected.maps, atol=1e-6)
    # What was found in the one is looked for in the other.
    assert (
        class_activation_maps(wrapped, PICTURES, method, expected.target_layer, class_index=1).target_layer.name == "5"
    )
    with pytest.raises(InspectionError, match="no layer 'elsewhere'"):
        class_activation_maps(wrapped, PICTURES, method, TargetLayer("elsewhere", "nchw"))
