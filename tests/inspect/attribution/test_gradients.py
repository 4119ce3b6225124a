"""Saliency, input times gradient, SmoothGrad and integrated gradients."""

import pytest
import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Saliency
from torch import nn

from cutaway.errors import InspectionError
from cutaway.inspect.attribution import input_x_gradient, integrated_gradients, saliency, smooth_grad
from cutaway.preprocessing import Preprocessing

pytestmark = pytest.mark.filterwarnings("ignore")  # captum and tracing tell of what they do


def test_of_a_linear_network_every_gradient_method_has_its_closed_form(linear):
    inputs = torch.randn(3, 2, 4, 4)
    classes = torch.tensor([2, 0, 1])
    weights = linear[1].weight.detach().reshape(3, 2, 4, 4)[classes]
    baseline = torch.full((2, 4, 4), 0.5)

    assert torch.allclose(saliency(linear, inputs, classes).attributions, weights)
    assert torch.allclose(saliency(linear, inputs, classes).heatmap, weights.abs().amax(1))
    assert torch.allclose(input_x_gradient(linear, inputs, classes).attributions, weights * inputs, atol=1e-6)
    assert torch.allclose(input_x_gradient(linear, inputs, classes).heatmap, (weights * inputs).sum(1), atol=1e-6)
    assert torch.allclose(smooth_grad(linear, inputs, classes).attributions, weights, atol=1e-5)
    spread = smooth_grad(linear, inputs, classes, averaging="vargrad").attributions
    assert torch.allclose(spread, torch.zeros_like(spread), atol=1e-6)
    found = integrated_gradients(linear, inputs, classes, baseline=baseline, steps=3)
    assert torch.allclose(found.attributions, weights * (inputs - baseline), atol=1e-5)
    assert torch.allclose(found.difference, (weights * (inputs - baseline)).flatten(1).sum(1), atol=1e-5)
    assert torch.allclose(found.gap, torch.zeros(3), atol=1e-5)


def test_integrated_gradients_share_out_what_the_path_crosses(two_units):
    # From (0, 0) to (3, 1) no ReLU changes sides, so the gradient of logit 0 is (0, -2) all the way: (0, -2) times
    # (3, 1). From (0, 4) the path (3t, 4 - 3t) leaves relu(a - b) closed until t = 2/3: b - a falls from 4 to -2.
    # Gradients are (-1, -1) there and (0, -2) after: a gets 3 * (-2/3), b gets -3 * (-1 * 2/3 - 2 * 1/3).
    picture = torch.tensor([[[[3.0, 1.0]]]])
    assert integrated_gradients(two_units, picture, 0).attributions.flatten().tolist() == pytest.approx([0, -2])
    # Their sum is F(3, 1) - F(0, 4) = -2 + 4; the quadrature misses the kink by a little, and the gap says by how much.
    found = integrated_gradients(two_units, picture, 0, baseline=torch.tensor([[[[0.0, 4.0]]]]), steps=200)
    assert found.attributions.flatten().tolist() == pytest.approx([-2, 4], abs=0.05)
    assert found.difference.tolist() == [2.0]
    assert found.gap.item() == pytest.approx(float(found.attributions.sum()) - 2)
    assert 0 < abs(found.gap.item()) < 0.05
    coarse = integrated_gradients(two_units, picture, 0, baseline=torch.tensor([[[[0.0, 4.0]]]]), steps=2)
    assert abs(coarse.gap.item()) > 0.3


def test_they_agree_with_captum(small, pictures):
    network, classes = small(), torch.tensor([0, 4, 2, 2])
    wanted = Saliency(network).attribute(pictures.clone(), classes, abs=False)
    assert torch.allclose(saliency(network, pictures, classes).attributions, wanted, atol=1e-6)
    wanted, delta = IntegratedGradients(network).attribute(
        pictures, torch.zeros_like(pictures), classes, n_steps=20, return_convergence_delta=True
    )
    found = integrated_gradients(network, pictures, classes, steps=20, at_a_time=3)
    assert torch.allclose(found.attributions, wanted.float(), atol=1e-5)
    assert torch.allclose(found.gap, delta.float(), atol=1e-4)


class Square(nn.Module):
    """Half the sum of squares, whose gradient is the picture itself."""

    def forward(self, x):
        return x.square().flatten(1).sum(1, keepdim=True) / 2


def test_smooth_grad_is_a_mean_over_noise_of_the_stated_spread():
    picture = torch.rand(1, 1, 30, 30) * 2 - 1
    spread = 0.2 * float(picture.max() - picture.min())
    mean = smooth_grad(Square(), picture, samples=400, noise=0.2).attributions - picture
    assert mean.std() == pytest.approx(spread / 20, rel=0.1)
    squared = smooth_grad(Square(), picture, samples=400, noise=0.2, averaging="smoothgrad_sq").attributions
    assert (squared - picture.square()).mean() == pytest.approx(spread**2, rel=0.05)
    spread_of = smooth_grad(Square(), picture, samples=400, noise=0.2, averaging="vargrad").attributions
    assert spread_of.mean() == pytest.approx(spread**2, rel=0.05)
    times = smooth_grad(Square(), picture, samples=400, noise=0.2, of="input-x-gradient")
    assert torch.allclose(times.attributions, squared)
    assert times.reduction == "sum"


def test_smooth_grads_noise_is_a_pictures_own_and_not_its_neighbours():
    picture, other = torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8)

    def noise(*pictures, **given):
        return smooth_grad(Square(), torch.cat(pictures), 0, samples=3, **given).attributions - torch.cat(pictures)

    twice = noise(picture, picture)
    assert not torch.allclose(twice[0], twice[1], atol=1e-3)
    assert torch.equal(noise(picture)[0], twice[0])
    assert torch.equal(noise(other, picture)[1], twice[1])
    assert torch.allclose(noise(picture, picture, at_a_time=2), twice, atol=1e-6)
    assert not torch.allclose(noise(picture, seed=1)[0], twice[0], atol=1e-3)


def test_smooth_grad_comes_near_captums(small, pictures):
    wanted = NoiseTunnel(Saliency(small())).attribute(
        pictures[:1], nt_samples=2000, stdevs=0.15 * float(pictures[0].max() - pictures[0].min()), target=3, abs=False
    )
    found = smooth_grad(small(), pictures[:1], 3, samples=2000, at_a_time=500).attributions
    assert torch.corrcoef(torch.stack([found.flatten(), wanted.flatten()]))[0, 1] > 0.995


def test_a_picture_of_one_colour_has_no_noise(small):
    flat = torch.ones(1, 3, 10, 10)
    assert torch.allclose(
        smooth_grad(small(), flat, 1, samples=3).attributions, saliency(small(), flat, 1).attributions, atol=1e-6
    )


def test_black_and_white_are_those_of_the_preprocessing(linear):
    grey = Preprocessing(size=(4, 4), color="grey", mean=(0.25,), std=(0.5,))
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    inputs = torch.randn(1, 1, 4, 4)
    weights = network[1].weight.detach()[1].reshape(1, 1, 4, 4)
    for kind, level in (("black", -0.5), ("white", 1.5)):
        found = integrated_gradients(network, inputs, 1, baseline=kind, preprocessing=grey)
        assert found.baseline == kind
        assert torch.allclose(found.attributions, weights * (inputs - level), atol=1e-5)
        with pytest.raises(InspectionError, match=f"What {kind} is"):
            integrated_gradients(network, inputs, baseline=kind)


def test_what_cannot_work_is_an_error_in_words(small, pictures):
    network = small()
    for function in (saliency, integrated_gradients, smooth_grad):
        with torch.inference_mode(), pytest.raises(InspectionError, match="inference_mode"):
            function(network, pictures)
        with pytest.raises(InspectionError, match="no class 5"):
            function(network, pictures, 5)
        with pytest.raises(InspectionError, match="as floats"):
            function(network, pictures[0])
        with pytest.raises(InspectionError, match="cuts off the gradients"):
            function(Cut(network), pictures)
    with pytest.raises(InspectionError, match="not 0"):
        integrated_gradients(network, pictures, steps=0)
    with pytest.raises(InspectionError, match="noise above 0"):
        smooth_grad(network, pictures, noise=0)
    with pytest.raises(InspectionError, match=r"does not fit pictures \[4, 3, 10, 10\]"):
        integrated_gradients(network, pictures, baseline=torch.zeros(7, 7))


class Cut(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.detach())
