"""Figures of attributions."""

import numpy as np
import pytest
import torch

from cutaway.inspect.attribution.drawing import clipped_scale, draw_attributions
from cutaway.inspect.canvas import pixels


def test_the_scale_leaves_out_the_strongest_hundredth_and_keeps_zero_in_the_middle():
    values = torch.arange(1000).float() / 1000
    values[-3:] = 50
    scale = clipped_scale(values)
    assert (scale.low, scale.is_signed) == (0, False)
    assert scale.high == pytest.approx(0.99)
    signed = clipped_scale(torch.tensor([[-3.0, 1.0], [0.5, 2.0]]))
    assert (signed.low, signed.high, signed.is_signed) == (-3, 3, True)


def test_a_map_of_a_single_pixel_is_still_seen():
    values = torch.zeros(40, 40)
    values[3, 4] = 2
    assert clipped_scale(values).high == 2
    assert clipped_scale(torch.zeros(4, 4)).high == 0
    assert clipped_scale(torch.full((2, 2), float("nan"))).high == 0


def test_a_figure_holds_the_picture_and_each_map_with_its_note():
    maps = {"saliency": torch.rand(6, 6), "occlusion": torch.randn(6, 6), "empty": torch.zeros(6, 6)}
    figure = draw_attributions(np.zeros((6, 6, 1), np.uint8), maps, title="$coat$: 90 %", notes={"occlusion": "covers"})
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:4] == ["picture", "saliency", "occlusion\ncovers", "empty"]
    assert figure.get_suptitle() == "$coat$: 90 %"
    assert any("zero everywhere" in text.get_text() for text in figure.axes[3].texts)
    drawn = pixels(figure)
    assert drawn.std() > 10
