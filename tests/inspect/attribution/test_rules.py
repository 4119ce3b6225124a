"""Guided backpropagation and DeepLIFT, whose rules hold for every spelling of a network."""

import pytest
import torch
from captum.attr import DeepLift, GuidedBackprop, GuidedGradCam
from torch import nn
from torch.nn import functional as F

from cutaway.errors import InspectionError
from cutaway.inspect.attribution import deep_lift, guided_backprop, guided_grad_cam, saliency

pytestmark = pytest.mark.filterwarnings("ignore")  # captum and tracing tell of what they do


def test_guided_backprop_by_hand(two_units):
    # At (3, 1) both units are open. The plain gradient of logit 0 is (1, -1) - (1, 1); the guided one lets only the
    # positive gradient of the first unit pass, so (1, -1).
    picture = torch.tensor([[[[3.0, 1.0]]]])
    assert saliency(two_units, picture, 0).attributions.flatten().tolist() == [0, -2]
    assert guided_backprop(two_units, picture, [0]).attributions.flatten().tolist() == [1, -1]
    assert guided_backprop(two_units, picture, 1).attributions.flatten().tolist() == [1, 1]


def test_deep_lift_by_hand(two_units):
    # From (0, 4) to (3, 1): relu(a - b) goes from relu(-4) = 0 to 2 over a change of 6, a third. relu(a + b) stays 4,
    # its plain gradient is 1. Multipliers of logit 0: 1/3 * (1, -1) - (1, 1) = (-2/3, -4/3), times (3, -3).
    picture, nothing = torch.tensor([[[[3.0, 1.0]]]]), torch.tensor([[[[0.0, 4.0]]]])
    found = deep_lift(two_units, picture, 0, baseline=nothing)
    assert found.attributions.flatten().tolist() == pytest.approx([-2, 4])
    assert found.difference.tolist() == [2.0]
    assert found.gap.item() == pytest.approx(0, abs=1e-5)


def test_every_spelling_gives_what_captum_gives_for_modules(small, spelling, pictures):
    reference, network, classes = small(), small(spelling), torch.tensor([0, 4, 2, 2])
    wanted = GuidedBackprop(reference).attribute(pictures.clone(), classes)
    assert torch.allclose(guided_backprop(network, pictures, classes).attributions, wanted, atol=1e-6)
    nothing = torch.full_like(pictures, 0.3)
    assert deep_lift(network, pictures, classes, baseline=nothing, at_a_time=3).gap.abs().max() < 1e-5
    reference.pool = network.pool = nn.AvgPool2d(2)  # of maxima, captum leaves a gap
    wanted, delta = DeepLift(reference).attribute(pictures.clone(), nothing, classes, return_convergence_delta=True)
    found = deep_lift(network, pictures, classes, baseline=nothing, at_a_time=3)
    assert delta.abs().max() < 1e-5
    assert torch.allclose(found.attributions, wanted, atol=1e-5)


def test_the_larger_of_two_maps_is_no_relu_also_where_the_baseline_makes_both_zero(pictures):
    class Maxout(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first = nn.Conv2d(3, 8, 3, bias=False)
            self.hidden, self.last = nn.Linear(4, 6), nn.Linear(6, 5)

        def forward(self, x):
            one, other = self.first(x).chunk(2, 1)
            return self.last(self.hidden(torch.maximum(one, other).mean((2, 3))).relu())

    network = Maxout().eval()
    found = deep_lift(network, pictures, 1, baseline=torch.zeros_like(pictures))
    assert found.attributions.shape == pictures.shape
    # Through the maximum, what is negative passes to the larger map.
    plain = guided_backprop(network, pictures, 1).attributions
    wanted = GuidedBackprop(nn.Sequential(_Larger(network.first), network.hidden, nn.ReLU(), network.last))
    assert torch.allclose(plain, wanted.attribute(pictures.clone(), 1), atol=1e-6)


def test_guided_grad_cam_is_captums(small, pictures):
    reference, classes = small(), torch.tensor([0, 4, 2, 2])
    cam = GuidedGradCam(reference, reference.second)
    wanted = cam.attribute(pictures.clone(), classes, interpolate_mode="bilinear")
    for network in (reference, small("in-place"), small("functional in-place")):
        found = guided_grad_cam(network, pictures, classes, target_layer="second")
        assert wanted.any()
        assert torch.allclose(found.attributions, wanted, atol=1e-6)


def test_captum_itself_ignores_functions_which_is_why_its_hooks_are_not_used(small, pictures):
    wanted = GuidedBackprop(small()).attribute(pictures.clone(), 1)
    assert not torch.allclose(GuidedBackprop(small("functional")).attribute(pictures.clone(), 1), wanted, atol=1e-3)
    with pytest.raises(RuntimeError, match="more than once"):
        DeepLift(small("shared")).attribute(pictures.clone(), torch.zeros_like(pictures), 1)


class Gated(nn.Module):
    """Squeeze and excitation, overlapping maxima, and activations of all kinds."""

    def __init__(self, activation):
        super().__init__()
        self.first, self.gate = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 6)
        self.last = nn.Linear(6, 4)
        self.activation = activation

    def forward(self, x):
        x = F.max_pool2d(self.activation(self.first(x)), 3, 2, 1)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
        x *= x.sigmoid()
        return self.last(F.adaptive_max_pool2d(x, 1).flatten(1))


KINDS = [F.relu, F.gelu, F.silu, F.hardswish, F.elu, F.leaky_relu, F.mish, torch.tanh, F.relu6, F.softplus]


@pytest.mark.parametrize("activation", KINDS, ids=lambda kind: kind.__name__)
def test_deep_lift_leaves_no_gap_with_any_activation_gate_or_overlapping_pool(activation, pictures):
    torch.manual_seed(1)
    network = Gated(activation).double()
    found = deep_lift(network, pictures, baseline=torch.full((3, 1, 1), -0.2))
    assert found.attributions.abs().sum() > 0.01
    assert found.difference.abs().max() > 1e-3
    assert found.gap.abs().max() < 1e-6


def test_the_gap_says_what_the_rules_do_not_cover(pictures):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(300, 20), nn.LayerNorm(20), nn.ReLU(), nn.Linear(20, 4))
    assert deep_lift(network, pictures).gap.abs().max() > 1e-2


def test_networks_that_guided_backprop_is_not_defined_for_are_refused_by_their_operations(pictures):
    with pytest.raises(InspectionError, match="it has silu"):
        guided_backprop(Gated(F.silu), pictures)
    with pytest.raises(InspectionError, match="no ReLU at all"):
        guided_backprop(nn.Sequential(nn.Flatten(), nn.Linear(300, 4)), pictures)
    assert guided_backprop(Gated(F.relu), pictures).attributions.any()


@pytest.mark.parametrize("method", [guided_backprop, deep_lift])
def test_torchscript_is_refused(method, small, pictures):
    traced = torch.jit.trace(small(), pictures)
    with pytest.raises(InspectionError, match="TorchScript"):
        method(traced, pictures)


def test_a_network_that_goes_another_way_for_the_baseline_is_refused(small, pictures):
    class Turning(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = small()

        def forward(self, x):
            return self.inner(x.relu() if x.any() else x)

    with pytest.raises(InspectionError, match="another way for the baseline"):
        deep_lift(Turning(), pictures)


def test_an_in_place_operation_still_writes_where_others_read(pictures):
    class Aliased(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Linear(8, 3)

        def forward(self, x):
            x = self.conv(x)
            y = x
            F.relu(x, inplace=True)
            x *= x.sigmoid()
            return self.last(torch.cat([x.mean((2, 3)), y.square().mean((2, 3))], 1))

    network = Aliased().eval()
    found = guided_backprop(network, pictures)
    assert torch.allclose(found.logits, network(pictures), atol=1e-6)
    assert deep_lift(network, pictures).difference.tolist() == pytest.approx(
        (network(pictures) - network(torch.zeros(1, 3, 10, 10))).gather(1, found.class_index[:, None])[:, 0].tolist(),
        abs=1e-5,
    )


class _Larger(nn.Module):
    def __init__(self, first):
        super().__init__()
        self.first = first

    def forward(self, x):
        return torch.maximum(*self.first(x).chunk(2, 1)).mean((2, 3))
