"""Geometry by hand where pixels stay whole, and against torchvision's functional where they are interpolated."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from cutaway.settings.augmentation_names import parse_augmentations
from cutaway.train.augmentation.geometry import MATRICES, crop_box, move, resampled, rotation, shear, translation

SQUARE = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]], dtype=torch.uint8)[None, None]


def moved(words, draws, pictures):
    return move(pictures, [(parse_augmentations([word])[0], draw) for word, draw in zip(words, draws, strict=True)])


def test_flips_by_hand(decided):
    pictures = SQUARE.expand(2, 1, 3, 3)
    across = moved(["flip:0.5"], [decided([0.49, 0.5])], pictures)
    assert across[0, 0].tolist() == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]
    assert torch.equal(across[1], pictures[1])
    down = moved(["vertical-flip"], [decided([0.1, 0.9])], pictures)
    assert down[0, 0].tolist() == [[7, 8, 9], [4, 5, 6], [1, 2, 3]]
    assert torch.equal(down[1], pictures[1])


def test_a_crop_by_hand(decided):
    # A margin of 1: offsets 0, 1 and 2 of the padded picture, down and across.
    pictures = SQUARE.expand(3, 1, 3, 3)
    cropped = moved(["crop:1"], [decided([0.0, 0.4, 0.99], [0.99, 0.4, 0.99])], pictures)
    assert cropped[0, 0].tolist() == [[0, 0, 0], [2, 3, 0], [5, 6, 0]]
    assert torch.equal(cropped[1], pictures[1])
    assert cropped[2, 0].tolist() == [[5, 6, 0], [8, 9, 0], [0, 0, 0]]


@pytest.mark.parametrize(("side", "margin"), [(28, 4), (32, 4), (224, 28), (5, 1)])
def test_a_crop_reaches_an_eighth_of_the_side_by_default(augmenter, side, margin):
    picture = torch.full((200, 1, side, side), 255, dtype=torch.uint8)
    cropped = augmenter("crop", size=(side, side), color="grey").batch(picture, 0, torch.arange(200))
    black_rows = (cropped.sum((1, 3)) == 0).sum(1)
    assert black_rows.max() == margin


@pytest.mark.parametrize(
    "words", [["flip:1"], ["vertical-flip:1"], ["crop:2"], ["crop:2", "flip:1", "vertical-flip:1"]]
)
def test_matrices_move_whole_pixels_as_the_exact_form_does(decided, noise, words):
    pictures = noise(3, 3, 9, 14)
    draws = decided([0.1, 0.5, 0.9], [0.9, 0.3, 0.1])
    matrices = np.eye(3)
    for asked in parse_augmentations(words):
        matrices = matrices @ MATRICES[asked.name](draws, asked.strengths, 9, 14)
    matrices = np.broadcast_to(matrices, (3, 3, 3))
    assert torch.equal(resampled(pictures, matrices), moved(words, [draws] * len(words), pictures))


@pytest.mark.parametrize("degrees", [-170.0, -30.0, 12.5, 90.0])
def test_rotation_is_torchvisions(degrees, smooth):
    picture = smooth((31, 42))
    ours = resampled(picture, rotation(np.array([degrees])))
    theirs = tv.rotate(picture, degrees, InterpolationMode.BILINEAR)
    assert (ours.int() - theirs.int()).abs().max() <= 1


@pytest.mark.parametrize(("across", "down"), [(0.3, 0.0), (-0.9, 0.0), (0.0, 0.5)])
def test_shear_is_torchvisions_about_the_upper_left_corner(across, down, smooth):
    picture = smooth((31, 42))
    ours = resampled(picture, shear(np.array([across]), np.array([down]), *picture.shape[2:]))
    angles = [math.degrees(math.atan(across)), math.degrees(math.atan(down))]
    theirs = tv.affine(picture, 0.0, [0, 0], 1.0, angles, InterpolationMode.BILINEAR, center=[0, 0])
    assert (ours.int() - theirs.int()).abs().max() <= 1


def test_translation_is_torchvisions(smooth):
    picture = smooth((31, 42))
    ours = resampled(picture, translation(np.array([5.0]), np.array([-3.0])))
    assert torch.equal(ours, tv.affine(picture, 0.0, [5, -3], 1.0, [0.0, 0.0]))


def test_affine_is_torchvisions(decided, smooth):
    picture = smooth((31, 42))
    # Each draw is a share of its range: degrees 10, translation a tenth, scale 1.1, shear of 6 degrees.
    draws = decided([0.75], [0.75], [0.25], [0.75], [0.8])
    ours = moved(["affine:20,0.2,0.2,10"], [draws], picture)
    height, width = picture.shape[2:]
    # The angle is counter-clockwise here as in torchvision's rotate, and clockwise in its affine.
    theirs = tv.affine(
        picture, -10.0, [0.1 * width, -0.1 * height], 1.1, [6.0, 0.0], InterpolationMode.BILINEAR
    )  # fmt: skip
    assert (ours.int() - theirs.int()).abs().max() <= 2


def test_maps_in_a_row_are_interpolated_once(decided, noise):
    """A rotation there and back loses nothing; interpolated twice, noise would be blurred."""
    pictures = noise(1, 1, 20, 20)
    there_and_back = moved(["rotate:30", "rotate:30"], [decided([0.9]), decided([0.1])], pictures)
    assert torch.equal(there_and_back, pictures)
    once = moved(["rotate:30"], [decided([0.9])], pictures)
    assert not torch.equal(moved(["rotate:30"], [decided([0.1])], once), pictures)


def test_the_order_of_maps_counts(decided, noise):
    pictures = noise(1, 1, 20, 20)
    turn, crop = decided([1.0]), decided([0.0], [0.0])
    one = moved(["rotate:90", "crop:5"], [turn, crop], pictures)
    assert torch.equal(one, moved(["crop:5"], [crop], tv.rotate(pictures, 90)))
    assert not torch.equal(one, moved(["crop:5", "rotate:90"], [crop, turn], pictures))


def test_a_resized_crop_box_by_hand(decided):
    # Area a quarter of 40 x 40 at ratio 1: 20 x 20; and all of it; the last positions that fit.
    top, left, rows, columns = crop_box(decided([0.0, 1.0], [0.5, 0.5], [0.0, 0.5], [0.999, 0.5]), (0.25, 1.0), 40, 40)
    assert (top.tolist(), left.tolist()) == ([0, 0], [20, 0])
    assert (rows.tolist(), columns.tolist()) == ([20, 40], [20, 40])


def test_resized_crop_boxes_stay_inside_and_keep_area_and_ratio():
    from cutaway.train.augmentation.draws import draws_for

    draws = draws_for("x", 0, 0, np.arange(10_000))
    top, left, rows, columns = crop_box(draws, (0.1, 1.0), 60, 90)
    assert min(top.min(), left.min()) == 0
    assert (top + rows).max() == 60
    assert (left + columns).max() == 90
    free = (rows < 60) & (columns < 90)
    ratio = (columns / rows)[free]
    assert 0.7 < ratio.min() < 0.78
    assert 1.28 < ratio.max() < 1.42
    area = (rows * columns / (60 * 90))[free]
    assert 0.08 < area.min() < 0.12
    assert set(np.unique(top)) >= {0, 10, 20}
    assert left.max() > 40


def test_a_resized_crop_of_a_picture_in_memory_is_torchvisions(decided, smooth):
    picture = smooth((40, 40))
    ours = moved(["resized-crop:0.25"], [decided([0.0], [0.5], [0.4], [0.7])], picture)
    top, left = int(0.4 * 21), int(0.7 * 21)
    theirs = tv.resized_crop(picture, top, left, 20, 20, [40, 40], InterpolationMode.BILINEAR, antialias=False)
    # At the box's border ours looks at the pixels beside it, which torchvision has cut off.
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert (ours[inner].int() - theirs[inner].int()).abs().max() <= 1


def test_half_of_ten_thousand_pictures_are_flipped(augmenter):
    pictures = torch.tensor([[0, 255]], dtype=torch.uint8).expand(10_000, 1, 1, 2)
    flipped = augmenter("flip", size=(1, 2), color="grey").batch(pictures, 0, torch.arange(10_000))[:, 0, 0, 0] == 255
    # Five standard deviations of a fair coin.
    assert abs(int(flipped.sum()) - 5000) < 250
    again = augmenter("flip", size=(1, 2), color="grey").batch(pictures, 1, torch.arange(10_000))[:, 0, 0, 0] == 255
    assert abs(int((flipped ^ again).sum()) - 5000) < 250


def test_every_crop_comes_as_often(augmenter):
    """81 offsets, each about 123 times in 10,000."""
    picture = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    picture[0, 0, 4, 4] = 255
    cropped = augmenter("crop:4", size=(9, 9), color="grey").batch(
        picture.expand(10_000, 1, 9, 9), 0, torch.arange(10_000)
    )
    counts = (cropped == 255).sum((0, 1))
    assert counts.sum() == 10_000
    # 80 degrees of freedom: above 140 once in some 30,000 seeds.
    assert ((counts - 10_000 / 81) ** 2 / (10_000 / 81)).sum() < 140
