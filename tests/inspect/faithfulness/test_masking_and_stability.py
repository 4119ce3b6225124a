"""Average drop and increase, infidelity, max-sensitivity."""

import pytest
import torch
from captum.metrics import infidelity as captums
from torch import nn

from cutaway.errors import InspectionError
from cutaway.inspect.attribution import saliency
from cutaway.inspect.attribution.gradients import picture_seed
from cutaway.inspect.faithfulness import drop_and_increase, infidelity, max_sensitivity


def test_drop_and_increase_by_hand(counting):
    # Pictures of 1: the whole has probability 1, a map of a half everywhere scales to 1, a map of one row of four
    # leaves a quarter.
    ones = torch.ones(3, 1, 4, 4)
    maps = torch.stack([torch.full((4, 4), 0.5), torch.eye(4)[:1].T.expand(4, 4), -torch.ones(4, 4)])
    shown = drop_and_increase(counting, ones, maps, 0)
    assert shown.masked.tolist() == pytest.approx([1, 0.25, 0], abs=1e-6)
    assert shown.drop.tolist() == pytest.approx([0, 0.75, 1], abs=1e-6)
    half = torch.zeros(1, 1, 4, 4)
    half[:, :, :2] = 1
    other = drop_and_increase(counting, half, half[:, 0], 1, baseline=torch.tensor(0.0))
    assert other.drop.tolist() == [0]
    worse = drop_and_increase(counting, half, 1 - half[:, 0], 1)
    assert worse.whole.tolist() == pytest.approx([0.5])
    assert worse.masked.tolist() == pytest.approx([1], abs=1e-6)
    assert worse.increased.tolist() == [True]
    assert worse.drop.tolist() == [0]


def test_the_gradient_of_a_linear_network_foretells_everything_at_any_scale():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    pictures = torch.randn(3, 1, 6, 6)
    gradients = saliency(network, pictures, 1).attributions[:, 0]
    assert infidelity(network, pictures, gradients, 1).tolist() == pytest.approx([0] * 3, abs=1e-4)
    for scale in (1e3, 1e-34):
        assert infidelity(network, pictures, scale * gradients, 1).tolist() == pytest.approx([0] * 3, abs=1e-4)
    assert infidelity(network, pictures, torch.zeros(3, 6, 6), 1).tolist() == [1] * 3


def test_a_map_that_foretells_the_opposite_is_of_no_use():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    pictures = torch.randn(3, 1, 6, 6)
    gradients = saliency(network, pictures, 1).attributions[:, 0]
    assert infidelity(network, pictures, -gradients, 1).tolist() == [1] * 3


def test_infidelity_is_captums_for_a_map_that_foretells_something():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 4))
    picture = torch.randn(1, 2, 6, 6)
    heatmap = saliency(network, picture, 2).attributions.mean(1)

    def perturbed(inputs):
        taken = (
            torch.randn(inputs.shape, generator=torch.Generator().manual_seed(picture_seed(0, 0)))
            * 0.1
            * (picture.max() - picture.min())
        )
        return taken, inputs - taken

    both = [
        captums(network, perturbed, picture, given, target=2, n_perturb_samples=2000, normalize=scaled)
        for given, scaled in ((heatmap.expand_as(picture), True), (torch.zeros_like(picture), False))
    ]
    found = infidelity(network, picture, heatmap, 2, samples=2000, at_a_time=2000)
    assert found.item() == pytest.approx((both[0] / both[1]).item(), abs=1e-4)
    assert 0.2 < found < 0.8


def test_a_map_that_foretells_half_of_the_variance_has_half_the_infidelity():
    # Two pixels weigh the same; the map knows of one. With the noise apart, half of what happens is foretold.
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    found = infidelity(network, torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[1.0, 0.0]]]), 0, samples=4000)
    assert found.item() == pytest.approx(0.5, abs=0.03)


def test_sensitivity_by_hand(corner):
    pictures = torch.zeros(2, 1, 4, 4)
    pictures[:, :, 0, 0] = 1  # a range of 1

    def constant(given, classes):
        return torch.ones(len(given), 4, 4)

    assert max_sensitivity(corner, pictures, constant).tolist() == [0, 0]

    seen = []

    def itself(given, classes):
        seen.append((given.clone(), classes.clone()))
        return given[:, 0]

    # A map that is the picture changes by what the picture changes; its norm is 1.
    found = max_sensitivity(corner, pictures, itself, [0, 1], radius=0.1, samples=7)
    for index in range(2):
        (before, chosen), (after, repeated) = seen[2 * index : 2 * index + 2]
        assert len(after) == 7
        assert repeated.tolist() == chosen.tolist() * 7 == [index] * 7
        assert (after - before).abs().max() <= 0.1
        assert found[index] == pytest.approx((after - before).flatten(1).norm(dim=1).max().item())
    assert torch.equal(max_sensitivity(corner, pictures, itself, [0, 1], radius=0.1, samples=7), found)


def test_arguments_out_of_range_are_told(corner, bright):
    with pytest.raises(InspectionError, match="noise above 0"):
        infidelity(corner, bright, torch.zeros(12, 3, 3), noise=0)
    with pytest.raises(InspectionError, match="radius above 0"):
        max_sensitivity(corner, bright, lambda x, c: x[:, 0], radius=-1)
