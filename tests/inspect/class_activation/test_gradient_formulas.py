"""The formulas against the papers' equations, written out with plain loops or by autograd in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from cutaway.inspect import class_activation_maps
from cutaway.inspect.class_activation import gradient_formulas as formulas
from cutaway.networks.target_layers import TargetLayer

# Two channels of 1 x 2 positions.
MAPS = torch.tensor([[[[1.0, 3.0]], [[2.0, 0.0]]]])
GRADIENT = torch.tensor([[[[0.5, -1.0]], [[1.0, 2.0]]]])


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        # Means of the gradient: -1/4 and 3/2. At the left -1/4 + 3, at the right -3/4 + 0.
        (formulas.grad_cam_map, [2.75, -0.75]),
        # Sums of the maps: 4 and 2. alpha = 1 / (2 + sum * g): 1/4 for 0.5 (the -1 is cut off); 1/4 and 1/6 for 1, 2.
        # Weights: 0.5 / 4 = 1/8, and 1 / 4 + 2 / 6 = 7/12.
        (formulas.grad_cam_plus_plus_map, [1 / 8 + 14 / 12, 3 / 8]),
        (formulas.hirescam_map, [0.5 + 2, -3 + 0]),
        (formulas.layercam_map, [0.5 + 2, 0]),
        (formulas.grad_cam_elementwise_map, [0.5 + 2, 0]),
        # Weights: (0.5 * 1 - 1 * 3) / 4 = -5/8 and (1 * 2 + 2 * 0) / 2 = 1.
        (formulas.xgrad_cam_map, [-5 / 8 + 2, -15 / 8]),
    ],
)
def test_maps_worked_out_by_hand(formula, expected: list[float]) -> None:
    assert formula(MAPS, GRADIENT)[0, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_where_terms_cancel_but_for_rounding_the_map_is_zero() -> None:
    # Two channels against each other: at the left they leave 1e-6 of 2, at the right 1.
    maps, gradient = torch.tensor([[[[1.0, 2.0]], [[1.0, 1.0]]]]), torch.tensor([[[[1.0, 1.0]], [[-1.0, -1.0]]]])
    maps[0, 0, 0, 0] += 1e-6
    assert formulas.map_by(formulas.grad_cam_map, maps, gradient)[0, 0].tolist() == [0, 1]
    # Against what speaks there, and only for what cancels: a map of small numbers stays.
    assert formulas.map_by(formulas.grad_cam_map, maps * 1e-9, gradient)[0, 0].tolist() == pytest.approx([0, 1e-9])
    # Nothing that is not finite disappears.
    broken = torch.tensor([[[[torch.inf, 1.0]], [[1.0, torch.nan]]]])
    assert not formulas.map_by(formulas.grad_cam_map, broken, gradient).isfinite().any()


def test_grad_cam_before_a_norm_that_takes_the_mean_away_is_empty_and_hirescam_is_not() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3)
    )
    images = torch.randn(5, 3, 8, 8)
    assert not class_activation_maps(net, images, "grad-cam", "0").maps.any()
    assert class_activation_maps(net, images, "hirescam", "0").has_evidence.all()


def test_layercam_cuts_gradients_off_and_elementwise_grad_cam_products() -> None:
    maps, gradient = torch.tensor([[[[-2.0]], [[3.0]]]]), torch.tensor([[[[1.0]], [[-1.0]]]])
    assert formulas.layercam_map(maps, gradient).item() == -2
    assert formulas.grad_cam_elementwise_map(maps, gradient).item() == 0
    assert formulas.grad_cam_elementwise_map(-maps, gradient).item() == 5


class ReluNet(nn.Module):
    """Whose logits are piecewise linear in the output of `features`, as Grad-CAM++ supposes, with a head of depth."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())
        self.more = nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU())
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.more(self.features(images)).mean((2, 3)))


def test_grad_cam_plus_plus_is_the_papers_ratio_of_second_and_third_derivatives() -> None:
    torch.manual_seed(0)
    network = ReluNet().double()
    picture = torch.randn(1, 3, 9, 9, dtype=torch.float64)
    found = class_activation_maps(network, picture, "grad-cam++", "features", class_index=2)
    with torch.no_grad():
        maps = network.features(picture)

    def score(at: Tensor) -> Tensor:
        return network.head(network.more(at).mean((2, 3)))[0, 2].exp()

    # Equation 10, one position at a time: Y along A_ij has derivatives of every order, taken by autograd.
    weights = torch.zeros(6, dtype=torch.float64)
    for channel in range(6):
        total = maps[0, channel].sum()
        for row in range(7):
            for column in range(7):
                step = torch.zeros((), dtype=torch.float64, requires_grad=True)
                one = torch.zeros_like(maps)
                one[0, channel, row, column] = 1
                value = score(maps + step * one)
                (first,) = torch.autograd.grad(value, step, create_graph=True)
                (second,) = torch.autograd.grad(first, step, create_graph=True)
                (third,) = torch.autograd.grad(second, step)
                if second != 0:
                    weights[channel] += (second / (2 * second + total * third) * first.relu()).item()
    expected = (weights[:, None, None] * maps[0]).sum(0).relu() / score(maps).item()
    assert expected.max() > 0
    assert torch.allclose(found.maps[0], expected, rtol=1e-9)
    # The usual mistake, with the sum of A times g cubed instead of the sum of A, times g cubed, is something else.
    (gradient,) = torch.autograd.grad(score(maps.requires_grad_()).log(), maps)
    maps = maps.detach()
    wrong = gradient**2 / (2 * gradient**2 + (maps * gradient**3).sum((2, 3), keepdim=True))
    mistaken = ((wrong.nan_to_num() * gradient.relu()).sum((2, 3), keepdim=True) * maps).sum(1).relu()
    assert not torch.allclose(found.maps, mistaken, rtol=1e-2)


def test_grad_cam_plus_plus_bears_gradients_whose_powers_vanish() -> None:
    small = formulas.grad_cam_plus_plus_map(MAPS, GRADIENT * 1e-20)
    # Where the gradient vanishes, alpha is a half: weights 1/2 of the positive gradients' sums.
    assert torch.allclose(small * 1e20, (torch.tensor([0.25, 1.5])[None, :, None, None] * MAPS).sum(1))


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
def test_what_the_formulas_have_in_common(seed: int, count: int, channels: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, channels, height, width)
    maps = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.01
    gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
    flat = gradient.mean((2, 3), keepdim=True).expand(shape)
    # A gradient that is the same everywhere (global average pooling) makes three methods one.
    for formula in (formulas.hirescam_map, formulas.xgrad_cam_map):
        assert torch.allclose(formula(maps, flat), formulas.grad_cam_map(maps, flat))
    # XGrad-CAM's conservation: over all positions it sums to the same as gradient times activation.
    assert torch.allclose(formulas.xgrad_cam_map(maps, gradient).sum((1, 2)), (maps * gradient).sum((1, 2, 3)))
    # After a ReLU, LayerCAM and element-wise Grad-CAM are one, and never below HiResCAM.
    assert torch.allclose(formulas.layercam_map(maps, gradient), formulas.grad_cam_elementwise_map(maps, gradient))
    assert (formulas.layercam_map(maps, gradient) >= formulas.hirescam_map(maps, gradient) - 1e-12).all()
    # One position leaves nothing to average over.
    if height * width == 1:
        assert torch.allclose(formulas.grad_cam_map(maps, gradient), formulas.hirescam_map(maps, gradient))


def test_a_silent_channel_weighs_nothing_in_xgrad_cam() -> None:
    maps = torch.zeros(1, 1, 2, 2)
    assert formulas.xgrad_cam_map(maps, torch.ones(1, 1, 2, 2)).tolist() == [[[0, 0], [0, 0]]]


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++", "hirescam", "layercam", "xgrad-cam"])
def test_half_precision_maps_are_summed_in_single(method: str) -> None:
    torch.manual_seed(0)
    network, picture = ReluNet(), torch.randn(1, 3, 9, 9)
    exact = class_activation_maps(network, picture, method, TargetLayer("features", "nchw"), class_index=1).maps
    half = class_activation_maps(network.bfloat16(), picture.bfloat16(), method, "features", class_index=1).maps
    assert half.dtype == torch.float32
    assert torch.allclose(half, exact, atol=0.05 * exact.max().item())


def test_grad_cam_plus_plus_leaves_out_positions_without_a_weight() -> None:
    # The channel sums to -2: at a gradient of 1 the denominator is 2 - 2, and at 2 it is 2 - 4, alpha -1/2.
    maps = torch.tensor([[[[-3.0, 1.0], [0.0, 0.0]]]])
    gradient = torch.tensor([[[[1.0, 2.0], [0.0, 0.0]]]])
    assert formulas.grad_cam_plus_plus_map(maps, gradient).tolist() == [[[3.0, -1.0], [0.0, 0.0]]]


def test_a_sum_that_cancels_but_for_rounding_is_not_divided_by() -> None:
    maps = torch.tensor([[[[0.1, 0.2], [0.3, -0.6 + 1e-7]], [[1.0, 0.0], [0.0, 0.0]]]])
    gradient = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]]]])
    assert formulas.xgrad_cam_map(maps, gradient).tolist() == [[[0.5, 0.0], [0.0, 0.0]]]
    # Where the gradient is 1 the denominator is 2 - 2 but for rounding.
    nearly = torch.tensor([[[[-3.0, 1.0 + 1e-6], [0.0, 0.0]]]])
    assert formulas.grad_cam_plus_plus_map(nearly, torch.ones(1, 1, 2, 2)).abs().max() == 0
    # A sum that is small but true counts.
    true = torch.tensor([[[[1.0, -0.99], [0.0, 0.0]]]])
    found = formulas.xgrad_cam_map(true, torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]))
    assert torch.allclose(found, 100 * true[:, 0], rtol=1e-4)
