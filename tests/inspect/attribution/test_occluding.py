"""Occlusion and feature ablation."""

import builtins

import pytest
import torch
from captum.attr import FeatureAblation, Occlusion

from cutaway.errors import InspectionError
from cutaway.inspect.attribution import feature_ablation, grid_segments, occlusion, slic_segments


def test_ablation_of_a_linear_network_by_hand(linear):
    inputs = torch.randn(2, 2, 4, 4)
    weights = linear[1].weight.detach().reshape(3, 2, 4, 4)[1]
    found = feature_ablation(linear, inputs, 1, segments=grid_segments(inputs, 2), baseline=torch.tensor(0.5))
    fall = (weights * (inputs - 0.5)).sum(1)
    quarters = fall.reshape(2, 2, 2, 2, 2).sum((2, 4))
    wanted = quarters.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert torch.allclose(found.heatmap, wanted, atol=1e-5)


def test_occlusion_of_a_linear_network_by_hand(linear):
    inputs = torch.randn(1, 2, 4, 4)
    weights = linear[1].weight.detach().reshape(3, 2, 4, 4)[2]
    fall = (weights * inputs[0]).sum(0)
    windows = torch.zeros(4, 4)
    covered = torch.zeros(4, 4)
    for top in range(3):
        for left in range(3):
            windows[top : top + 2, left : left + 2] += fall[top : top + 2, left : left + 2].sum()
            covered[top : top + 2, left : left + 2] += 1
    found = occlusion(linear, inputs, 2, window=2, stride=1)
    assert torch.allclose(found.heatmap[0], windows / covered, atol=1e-5)


def test_they_agree_with_captum(small, pictures):
    network, classes = small(), torch.tensor([0, 4, 2, 2])
    wanted = Occlusion(network).attribute(pictures, (3, 3, 3), (3, 2, 2), 0.0, classes)
    found = occlusion(network, pictures, classes, window=3, stride=2, at_a_time=5)
    assert torch.allclose(found.attributions, wanted / 3, atol=1e-5)
    mask = slic_segments(pictures, 9)
    wanted = FeatureAblation(network).attribute(pictures[1:2], 0.0, 4, feature_mask=mask[1:2])
    found = feature_ablation(network, pictures, classes, segments=mask)
    assert torch.allclose(found.attributions[1:2], wanted / 3, atol=1e-5)


def test_segments_cover_every_pixel_evenly():
    grid = grid_segments(torch.zeros(1, 3, 10, 13), 3, 4)
    sizes = grid.flatten().bincount()
    assert len(sizes) == 12
    assert sizes.sum() == 130
    assert sizes.min() >= 3 * 3
    assert sizes.max() <= 4 * 4
    halves = torch.cat([torch.zeros(1, 3, 16, 8), torch.ones(1, 3, 16, 8)], 3)
    followed = slic_segments(halves, 4)
    left, right = followed[..., :8].unique(), followed[..., 8:].unique()
    assert not set(left.tolist()) & set(right.tolist())
    assert slic_segments(torch.zeros(2, 1, 16, 16), 4).shape == (2, 1, 16, 16)


def test_what_does_not_fit_is_an_error_in_words(small, pictures, monkeypatch):
    with pytest.raises(InspectionError, match="window of 11 pixels"):
        occlusion(small(), pictures, window=11)
    with pytest.raises(InspectionError, match="every 5"):
        occlusion(small(), pictures, window=4, stride=5)
    with pytest.raises(InspectionError, match="Segments are numbers"):
        feature_ablation(small(), pictures, segments=torch.zeros(1, 1, 5, 5, dtype=torch.int64))
    with pytest.raises(InspectionError, match="no grid of 11x11"):
        grid_segments(pictures, 11)
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("skimage"):
            raise ModuleNotFoundError(name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InspectionError, match="scikit-image"):
        slic_segments(pictures)
