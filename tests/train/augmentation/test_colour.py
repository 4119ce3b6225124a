"""Colours by hand, and against torchvision's functional, a factor at a time, within the level that it truncates."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from cutaway.train.augmentation import colour

FACTORS = [0.0, 0.4, 1.0, 1.7]


def level(*values):
    """One picture of one row of grey pixels."""
    return torch.tensor(values, dtype=torch.uint8).reshape(1, 1, 1, -1)


def test_brightness_by_hand():
    assert colour.brightness(level(0, 100, 200), np.array([1.5])).flatten().tolist() == [0, 150, 255]


def test_contrast_by_hand():
    # Mean 80: half the distance from it, and one and a half times.
    assert colour.contrast(level(20, 60, 160), np.array([0.5])).flatten().tolist() == [50, 70, 120]
    assert colour.contrast(level(20, 60, 160), np.array([1.5])).flatten().tolist() == [0, 50, 200]


def test_saturation_by_hand():
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).reshape(1, 3, 1, 1)
    # Luma of pure red: 0.2989 * 255, floored to 76.
    assert colour.saturation(red, np.array([0.0])).flatten().tolist() == [76, 76, 76]
    assert colour.saturation(red, np.array([0.5])).flatten().tolist() == [166, 38, 38]
    assert colour.saturation(level(9), np.array([0.0])).flatten().tolist() == [9]


def test_sharpness_by_hand():
    picture = torch.zeros(1, 1, 3, 3, dtype=torch.uint8)
    picture[0, 0, 1, 1] = 130
    # Blurred, the middle is 130 * 5 / 13 = 50.
    assert colour.sharpness(picture, np.array([0.0]))[0, 0].tolist() == [[0, 0, 0], [0, 50, 0], [0, 0, 0]]
    assert colour.sharpness(picture, np.array([2.0]))[0, 0, 1, 1] == 210


def test_hue_by_hand():
    red = torch.tensor([200, 20, 20], dtype=torch.uint8).reshape(1, 3, 1, 1)
    third = colour.hue(red.expand(4, 3, 1, 1), np.array([0.0, 1 / 3, -1 / 3, 0.5]))
    assert third.reshape(4, 3).tolist() == [[200, 20, 20], [20, 200, 20], [20, 20, 200], [20, 200, 200]]


def test_posterize_and_solarize_by_hand():
    pictures = level(0b10110101, 0b01111111).expand(2, 1, 1, 2)
    assert colour.posterize(pictures, np.array([8, 2])).reshape(2, 2).tolist() == [[181, 127], [128, 64]]
    assert colour.solarize(pictures, np.array([128.0, 127.0])).reshape(2, 2).tolist() == [[74, 127], [74, 128]]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (colour.brightness, tv.adjust_brightness),
        (colour.contrast, tv.adjust_contrast),
        (colour.saturation, tv.adjust_saturation),
        (colour.sharpness, tv.adjust_sharpness),
    ],
    ids=lambda function: function.__name__,
)
def test_each_sample_has_its_own_factor_as_torchvision_would_apply_it(noise, channels, ours, theirs):
    pictures = noise(len(FACTORS), channels, 13, 17)
    changed = ours(pictures, np.array(FACTORS))
    for picture, factor, result in zip(pictures, FACTORS, changed, strict=True):
        assert (result.int() - theirs(picture, factor).int()).abs().max() <= 1


def test_hue_is_torchvisions(noise):
    turns = [-0.5, -0.2, 0.1, 0.4]
    pictures = noise(len(turns), 3, 13, 17)
    for picture, turn, result in zip(pictures, turns, colour.hue(pictures, np.array(turns)), strict=True):
        assert (result.int() - tv.adjust_hue(picture, turn).int()).abs().max() <= 1


def test_posterize_and_solarize_are_torchvisions(noise):
    pictures = noise(9, 3, 5, 6)
    bits = np.arange(9)
    for picture, kept, result in zip(pictures, bits.tolist(), colour.posterize(pictures, bits), strict=True):
        assert torch.equal(result, tv.posterize(picture, kept))
    thresholds = np.linspace(0, 255, 9)
    for picture, threshold, result in zip(pictures, thresholds, colour.solarize(pictures, thresholds), strict=True):
        assert torch.equal(result, tv.solarize(picture, threshold))


def test_jitter_stays_within_its_strengths_and_differs_between_samples(augmenter):
    picture = torch.full((500, 3, 4, 4), 100, dtype=torch.uint8)
    jittered = augmenter("colour-jitter:0.2,0,0").batch(picture, 0, torch.arange(500))[:, 0, 0, 0].int()
    assert jittered.min() >= 80
    assert jittered.max() <= 120
    assert jittered.unique().numel() > 30
    still = augmenter("colour-jitter:0").batch(picture, 0, torch.arange(500))
    assert torch.equal(still, picture)


@pytest.mark.parametrize(
    ("word", "ours"),
    [
        ("grayscale:0.5", lambda pictures: tv.rgb_to_grayscale(pictures, 3)),
        ("autocontrast", tv.autocontrast),
        ("equalize", tv.equalize),
        ("invert", tv.invert),
        ("posterize:3", lambda pictures: tv.posterize(pictures, 3)),
        ("solarize:100", lambda pictures: tv.solarize(pictures, 100)),
        ("sharpness:2", lambda pictures: tv.adjust_sharpness(pictures, 2)),
    ],
)
def test_about_half_are_changed_and_those_as_torchvision_does(augmenter, noise, word, ours):
    pictures = noise(400, 3, 20, 20) // 2 + 20
    changed = augmenter(word).batch(pictures, 0, torch.arange(400))
    wanted = ours(pictures)
    as_before = (changed == pictures).flatten(1).all(1)
    as_wanted = ((changed.int() - wanted.int()).abs() <= 1).flatten(1).all(1)
    assert (as_before | as_wanted).all()
    assert 150 < int((~as_before).sum()) < 250
