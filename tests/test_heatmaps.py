from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cutaway import heatmaps
from cutaway.errors import InspectionError


def test_strongest_point_becomes_one_and_no_evidence_stays_zero() -> None:
    raw = np.array([[0.0, 1.0], [2.0, 4.0]], np.float32)

    np.testing.assert_array_equal(heatmaps.normalise(raw), [[0, 0.25], [0.5, 1]])


def test_a_map_that_is_strong_everywhere_stays_strong_everywhere() -> None:
    np.testing.assert_array_equal(heatmaps.normalise(np.full((2, 3), 7.0)), np.ones((2, 3)))


@pytest.mark.parametrize("scale", [0.0, 1e-9, 2e-8])
def test_nearly_zero_map_is_not_stretched_to_full_colour(scale: float) -> None:
    noise = np.random.default_rng(0).random((7, 7)).astype(np.float32) * np.float32(scale)

    assert not heatmaps.normalise(noise).any()
    assert heatmaps.is_empty(noise)


def test_what_a_large_map_spreads_over_its_positions_is_shown() -> None:
    assert heatmaps.normalise(np.full((500, 500), 1e-8)).all()
    assert not heatmaps.is_empty(np.full((500, 500), 1e-8))
    assert heatmaps.is_empty(np.full((1, 1), 1e-8))


def test_a_map_that_is_said_to_be_faint_is_not_stretched() -> None:
    noise = np.array([[1.0, 0.0], [0.5, 0.0]], np.float32)
    assert heatmaps.normalise(noise).max() == 1
    assert not heatmaps.normalise(noise, faint=True).any()
    picture = np.full((2, 2, 3), 100, np.uint8)
    empty = heatmaps.overlay(picture, np.zeros((2, 2), np.float32))
    np.testing.assert_array_equal(heatmaps.overlay(picture, noise, faint=True), empty)


def test_negative_values_are_no_evidence() -> None:
    np.testing.assert_array_equal(heatmaps.normalise(np.array([[-5.0, 2.0]])), [[0, 1]])
    assert not heatmaps.normalise(np.array([[-5.0, -1.0]])).any()


def test_an_all_negative_extreme_does_not_overflow() -> None:
    tiny_and_huge = np.array([[np.finfo(np.float32).max, 0]], np.float32)

    np.testing.assert_array_equal(heatmaps.normalise(tiny_and_huge), [[1, 0]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_in_words(bad: float) -> None:
    with pytest.raises(InspectionError, match="not finite"):
        heatmaps.normalise(np.array([[0.0, bad]]))


@pytest.mark.parametrize(("height", "width"), [(28, 28), (5, 9), (2, 3), (1, 1), (31, 4)])
def test_resize_equals_torch_interpolate(height: int, width: int) -> None:
    torch = pytest.importorskip("torch")
    heatmap = np.random.default_rng(1).random((4, 7)).astype(np.float32)

    expected = torch.nn.functional.interpolate(
        torch.from_numpy(heatmap)[None, None], (height, width), mode="bilinear", align_corners=False
    )

    np.testing.assert_allclose(heatmaps.resize(heatmap, height, width), expected[0, 0].numpy(), atol=1e-6)


def test_colors_rise_evenly_in_lightness() -> None:
    # CIELAB by scikit-image is an oracle of its own: the table was made in another space.
    skimage_color = pytest.importorskip("skimage.color")
    lightness = skimage_color.rgb2lab(heatmaps.color_table()[None] / 255)[0, :, 0]

    steps = np.diff(lightness)
    assert lightness[0] < 5
    assert lightness[-1] > 90
    assert (steps > -0.05).all()  # never darker, but for 8-bit rounding
    coarse = np.diff(lightness[17::17])  # CIELAB bends away from OKLab only near black
    assert coarse.max() / coarse.min() < 1.5  # no plateau and no jump


def test_neighbouring_colors_never_jump() -> None:
    table = heatmaps.color_table().astype(int)

    assert table.shape == (256, 3)
    assert np.abs(np.diff(table, axis=0)).max() <= 6
    assert len(np.unique(table, axis=0)) == 256


def test_colorise_takes_the_ends_of_the_table_and_clips_beyond() -> None:
    colors = heatmaps.colorise(np.array([[-1.0, 0.0, 1.0, 2.0]], np.float32))

    np.testing.assert_array_equal(colors[0], heatmaps.color_table()[[0, 0, 255, 255]])


def test_overlay_blends_by_hand_worked_numbers() -> None:
    image = np.full((1, 2, 3), 100, np.uint8)
    low, high = heatmaps.color_table()[0].astype(float), heatmaps.color_table()[255].astype(float)

    blended = heatmaps.overlay(image, np.array([[0.0, 3.0]], np.float32), opacity=0.25)

    np.testing.assert_array_equal(blended[0, 0], np.rint(75 + low / 4))
    np.testing.assert_array_equal(blended[0, 1], np.rint(75 + high / 4))


def test_overlay_opacity_ends() -> None:
    image = np.random.default_rng(2).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    heatmap = np.random.default_rng(3).random((2, 2)).astype(np.float32)

    np.testing.assert_array_equal(heatmaps.overlay(image, heatmap, opacity=0), image)
    np.testing.assert_array_equal(
        heatmaps.overlay(image, heatmap, opacity=1),
        heatmaps.colorise(heatmaps.resize(heatmaps.normalise(heatmap), 6, 5)),
    )


def test_overlay_of_a_grey_picture_has_three_channels() -> None:
    grey = np.random.default_rng(4).integers(0, 256, (6, 5, 1), dtype=np.uint8)
    heatmap = np.ones((2, 2), np.float32)

    np.testing.assert_array_equal(
        heatmaps.overlay(grey, heatmap), heatmaps.overlay(np.repeat(grey, 3, axis=2), heatmap)
    )


def test_overlay_marks_the_place_of_the_evidence() -> None:
    heatmap = np.zeros((4, 4), np.float32)
    heatmap[0, 3] = 1

    brightness = np.asarray(Image.fromarray(heatmaps.overlay(np.zeros((40, 40, 3), np.uint8), heatmap)).convert("L"))

    assert np.unravel_index(brightness.argmax(), brightness.shape)[0] < 10
    assert np.unravel_index(brightness.argmax(), brightness.shape)[1] >= 30


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_impossible_opacity_is_refused(opacity: float) -> None:
    with pytest.raises(ValueError, match="opacity"):
        heatmaps.overlay(np.zeros((2, 2, 3), np.uint8), np.zeros((1, 1), np.float32), opacity=opacity)
