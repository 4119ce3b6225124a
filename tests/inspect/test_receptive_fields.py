from __future__ import annotations

import pytest
import torch
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.inspect.layers import LayerRow, layer_table


def last(network: nn.Module, *shape: int) -> LayerRow:
    """The row that the network's answer comes from."""
    return layer_table(network, shape).rows[0]


def seen(row: LayerRow) -> tuple[object, object, object]:
    return row.receptive_field, row.field_stride, row.field_offset


def test_a_stack_worked_out_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 2, (3, 5), padding=(1, 0)),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(2),
        nn.Conv2d(2, 2, 3, stride=2, dilation=2, padding=1),
    )
    rows = layer_table(network, (1, 32, 32)).rows[1:]
    assert seen(rows[0]) == seen(rows[1]) == ((3, 5), (1, 1), (-1, 0))
    # One pixel more; then four steps of two more, from one step of two before.
    assert seen(rows[2]) == seen(rows[3]) == ((4, 6), (2, 2), (-1, 0))
    assert seen(rows[4]) == ((12, 14), (4, 4), (-3, -2))


@pytest.mark.parametrize(
    ("name", "layer", "size"),
    [
        # Araujo, Norris and Sim, "Computing receptive fields of convolutional neural networks", Distill 2019.
        ("vgg16", "features.30", 212),
        ("inception_v3", "Mixed_7c", 1311),
        ("mobilenet_v2", "features.18", 491),
        ("densenet121", "features", 2071),
    ],
)
def test_published_fields(name: str, layer: str, size: int) -> None:
    keywords = {"init_weights": False} if name == "inception_v3" else {}
    with torch.device("meta"):
        network = torchvision.models.get_model(name, **keywords)
    row = next(row for row in layer_table(network, (3, 320, 320)).rows if row.name == layer)
    assert (row.receptive_field, row.field_stride) == ((size, size), (32, 32))


def layers() -> st.SearchStrategy[nn.Module]:
    kernel, stride, padding, dilation = (st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), st.integers(1, 2))
    convolution = st.builds(
        lambda k, s, p, d: nn.Conv2d(2, 2, k, s, p, d, bias=False), kernel, stride, padding, dilation
    )
    pool = st.builds(lambda k, s: nn.AvgPool2d(k, s), kernel, stride)
    strided = st.builds(lambda k, p: nn.ConvTranspose2d(2, 2, k, 1, p, bias=False), kernel, padding)
    # A leaky ReLU, for behind a layer norm of two channels a ReLU may be dead whatever the picture.
    plain = st.sampled_from([nn.LeakyReLU, lambda: nn.BatchNorm2d(2), Branches, Shuffle, Last]).map(lambda made: made())
    return st.one_of(convolution, convolution, pool, strided, plain)


class Branches(nn.Module):
    """A residual branch of another field, both ways round."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.conv(x)
        return torch.cat([y[:, :1], F.max_pool2d(y, 3, 1, 1)[:, 1:]], 1)


class Shuffle(nn.Module):
    """Channels that change places, through views."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class Last(nn.Module):
    """Channels last, as ConvNeXt has them."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(self.linear(x.permute(0, 2, 3, 1)), (2,)).permute(0, 3, 1, 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(layers(), min_size=1, max_size=5))
def test_the_field_is_where_the_gradient_is_not_zero(stack: list[nn.Module]) -> None:
    network = nn.Sequential(*stack).eval().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_().add_(0.1)
    side = 61
    images = torch.rand(1, 2, side, side, dtype=torch.float64, requires_grad=True)
    answer = network(images)
    row = last(network, 2, side, side)
    assert row.receptive_field is not None
    middle = answer.shape[-1] // 2
    start = row.field_offset[0] + middle * row.field_stride[0]
    # A field that reaches over the edge could not be seen whole.
    assume(start >= 0)
    assume(start + row.receptive_field[0] <= side)
    # Max pools have gradients at what they choose alone, so many pictures are looked at together.
    touched = torch.zeros(side, side, dtype=torch.bool)
    for seed in range(40):
        images = torch.rand(1, 2, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        answer = network(images.requires_grad_())
        (gradient,) = torch.autograd.grad(answer[..., middle, middle].square().sum(), images)
        touched |= gradient[0].ne(0).any(0)
    for axis in (0, 1):
        places = touched.any(1 - axis).nonzero().flatten()
        assert int(places[0]) == start
        assert int(places[-1]) - int(places[0]) + 1 == row.receptive_field[axis]


def test_axes_are_kept_apart_through_views() -> None:
    class Flattened(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, (4, 2), (4, 2))

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.patches(x).flatten(2).transpose(1, 2)
            return tokens.transpose(1, 2).reshape(-1, 8, 4, 8)

    assert seen(last(Flattened(), 3, 16, 16)) == ((4, 2), (4, 2), (0, 0))


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(2, 2, 3), nn.AdaptiveAvgPool2d(1)),
        nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(2 * 14 * 14, 3)),
        nn.Sequential(nn.Conv2d(2, 2, 3), nn.GroupNorm(1, 2)),
        nn.Sequential(nn.Conv2d(2, 2, 3), nn.InstanceNorm2d(2)),
        nn.Sequential(nn.Conv2d(2, 2, 3), nn.Softmax(2)),
        nn.Sequential(nn.AdaptiveAvgPool2d(5)),
        torchvision.ops.SqueezeExcitation(2, 1),
        nn.Sequential(nn.Flatten(2), nn.MultiheadAttention(256, 1)) and nn.Sequential(nn.Flatten(2), nn.Linear(256, 3)),
    ],
    ids=["pool", "linear", "group", "instance", "softmax", "uneven", "squeeze", "positions"],
)
def test_what_sees_everything_or_unevenly_has_no_field(network: nn.Module) -> None:
    assert seen(last(network, 2, 16, 16)) == (None, None, None)


def test_a_softmax_over_channels_and_a_pool_that_changes_nothing_keep_the_field() -> None:
    network = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Softmax(1), nn.AdaptiveAvgPool2d(14), nn.AdaptiveMaxPool2d(7))
    assert seen(last(network, 2, 16, 16)) == ((4, 4), (2, 2), (0, 0))


def test_sound_and_volumes() -> None:
    sound = nn.Sequential(nn.Conv1d(1, 2, 5, 2), nn.MaxPool1d(2), nn.AvgPool1d(3, 1, 1), nn.PReLU())
    assert seen(last(sound, 1, 64)) == ((15,), (4,), (-4,))
    assert seen(last(nn.Sequential(nn.Conv3d(1, 2, 3), nn.MaxPool3d(2)), 1, 8, 8, 8)) == ((4,) * 3, (2,) * 3, (0,) * 3)


def test_going_up_again() -> None:
    down, up = nn.Conv2d(2, 2, 2, 2), nn.ConvTranspose2d(2, 2, 2, 2)
    assert seen(last(nn.Sequential(down, up), 2, 16, 16)) == ((2, 2), (1, 1), (0, 0))
    assert seen(last(nn.Sequential(down, nn.Upsample(scale_factor=4)), 2, 16, 16))[:2] == ((2, 2), (0.5, 0.5))
    smooth = nn.Upsample(scale_factor=2, mode="bilinear")
    assert seen(last(nn.Sequential(down, smooth), 2, 16, 16))[:2] == ((4, 4), (1, 1))
