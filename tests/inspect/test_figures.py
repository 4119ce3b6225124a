from __future__ import annotations

import io
import itertools
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from cutaway.inspect.canvas import grid, new_figure, plain
from cutaway.inspect.features import FeatureMaps
from cutaway.inspect.figures import (
    draw_feature_maps,
    draw_histograms,
    draw_kernels,
    pixels,
    png,
)
from cutaway.inspect.histograms import tensor_histogram
from cutaway.inspect.kernels import Kernels
from cutaway.inspect.tiles import fitted, kernel_tiles, map_tile, scale_of
from cutaway.networks.target_layers import TargetLayer


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> None:
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ResourceWarning)  # what earlier tests left to the garbage collector


def test_feature_maps_share_one_scale_with_a_colour_bar() -> None:
    maps = torch.zeros(1, 3, 4, 4)
    maps[0, 1] = 2
    maps[0, 2, 0, 0] = 8
    figure = draw_feature_maps(FeatureMaps(TargetLayer("layer1", "nchw"), maps), limit=2)
    first, second, bar = figure.axes
    # Channel 1 is the more active one; both are drawn against the 8 of the other.
    assert [first.get_title(), second.get_title()] == ["1", "2"]
    assert bar.get_ylim() == (0, 8)
    shown = first.images[0].get_array()
    assert np.array_equal(shown[0, 0], map_tile(torch.tensor([[2.0, 8.0]]), scale_of(torch.tensor([0.0, 8.0])))[0, 0])


def test_feature_maps_on_their_own_scales_have_a_colour_bar_each() -> None:
    maps = torch.zeros(1, 3, 2, 2)
    maps[0, 1] = torch.tensor([[0.0, 8.0], [0.0, 0.0]])
    maps[0, 2] = torch.tensor([[0.0, 0.5], [0.0, 0.0]])
    figure = draw_feature_maps(FeatureMaps(TargetLayer("layer1", "nchw"), maps), scaled="map", rank="variance")
    drawn = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in drawn] == ["1", "2", "0"]
    # The faint one is as bright as the strong one, and only its bar tells them apart.
    assert np.array_equal(drawn[0].images[0].get_array(), drawn[1].images[0].get_array())
    assert [axes.get_ylim() for axes in figure.axes if axes not in drawn] == [(0, 8), (0, 0.5)]


def test_scales_are_honest() -> None:
    assert (scale_of(torch.tensor([1.0, 3.0])).low, scale_of(torch.tensor([1.0, 3.0])).high) == (0, 3)
    signed = scale_of(torch.tensor([-1.0, 3.0, math.nan, math.inf]))
    assert (signed.low, signed.high, signed.is_signed) == (-3, 3, True)
    middle = map_tile(torch.tensor([[0.0, -3.0, 3.0]]), signed)[0]
    assert np.ptp(middle[0].astype(int)) <= 3
    assert middle[1][2] > middle[1][0]
    assert middle[2][0] > middle[2][2]
    # A map of nothing is dark and not stretched.
    assert not map_tile(torch.zeros(2, 2), scale_of(torch.zeros(2, 2))).max() > 40
    assert map_tile(torch.tensor([[math.nan]]), signed).shape == (1, 1, 3)


def test_kernels_of_three_channels_are_colours_around_grey() -> None:
    weights = torch.zeros(2, 3, 1, 1)
    weights[1, 0] = -0.5
    weights[1, 2] = 0.5
    (grey, colour), scale = kernel_tiles(weights)
    assert grey.tolist() == [[[128, 128, 128]]]
    assert colour.tolist() == [[[0, 128, 255]]]
    assert (scale.low, scale.high) == (-0.5, 0.5)
    assert len(draw_kernels(Kernels("conv1", weights)).axes) == 2
    # One channel has a colour bar instead.
    assert len(draw_kernels(Kernels("conv1", weights[:, :1] + 1)).axes) == 3


def test_small_pictures_keep_their_pixels_and_large_ones_shrink() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert np.array_equal(fitted(picture, 7)[::3, ::3], picture)
    assert fitted(picture, 7).shape == (6, 6, 3)
    assert fitted(np.zeros((100, 400, 1), np.uint8), 200).shape == (50, 200, 3)


def test_histograms_name_what_is_not_finite() -> None:
    shown = [tensor_histogram(f"layer{i}.weight", torch.tensor([1.0, 2.0, math.nan])) for i in range(5)]
    figure = draw_histograms(shown, limit=3)
    assert figure._suptitle.get_text() == "Weights: 3 of 5"
    assert figure.axes[0].get_title(loc="left") == "layer0.weight"
    assert figure.axes[0].texts[0].get_text() == "1 NaN, 0 infinite"


def test_figures_become_files_and_pixels_without_pyplot() -> None:
    figure = draw_histograms([tensor_histogram("w", torch.randn(10))])
    image = Image.open(io.BytesIO(png(figure, dpi=50)))
    assert image.format == "PNG"
    assert pixels(figure, dpi=50).shape == (image.height, image.width, 3)
    assert png(figure, dpi=50) == png(figure, dpi=50)


def test_no_global_state_of_pyplot_is_touched() -> None:
    code = "import sys, cutaway.inspect.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["$x$", "a_b$", "$\\frac{$ and $", "\\$5", "$^2$\N{EGYPTIAN HIEROGLYPH A001}"])
def test_names_of_strangers_are_no_formulas_wherever_they_stand(name: str) -> None:
    figure = new_figure(4, 3)
    figure.suptitle(name)
    (axes,) = grid(figure, 1, 1)
    axes.plot([1, 2], [1, 1000], label=name)
    axes.set_yscale("log")
    axes.set_title(name, loc="left")
    axes.set_xticks([1, 2], [plain(name)] * 2)
    axes.legend(title=name)
    axes.text(1, 10, name)
    assert png(figure)
    shown = [text for text in figure.findobj(Text) if "\\mathdefault" not in text.get_text()]
    assert sum(text.get_text() == plain(name) for text in shown) >= 7
    assert not any(text.get_parse_math() for text in shown if text.get_text())
    # The numbers of a logarithmic axis are formulas, and stay such.
    formulas = [label for label in axes.yaxis.get_ticklabels() if "$" in label.get_text()]
    assert formulas
    assert all(label.get_parse_math() for label in formulas)


def test_numbers_below_a_histogram_do_not_touch() -> None:
    values = torch.linspace(-0.0106, 0.0079, 200)
    figure = draw_histograms([tensor_histogram(f"layer{i}.weight", values) for i in range(4)])
    figure.canvas.draw()
    low, high = figure.axes[0].get_xlim()
    texts = [text for text in figure.axes[0].get_xticklabels() if low <= text.get_position()[0] <= high]
    boxes = [text.get_window_extent() for text in texts]
    assert len(boxes) >= 2
    assert all(one.x1 + 4 < other.x0 for one, other in itertools.pairwise(boxes))
