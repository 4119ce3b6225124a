"""Deletion and insertion, against curves that are known."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.errors import InspectionError
from cutaway.inspect.faithfulness import deletion, insertion
from cutaway.inspect.faithfulness.ordering import fitted_maps, pixel_ranks


def test_where_the_probability_is_the_share_of_pixels_left_the_curves_are_straight(counting):
    ones = torch.ones(2, 1, 4, 5)
    maps = torch.rand(2, 4, 5)
    gone = deletion(counting, ones, maps, 0, steps=10)
    assert gone.shares.tolist() == pytest.approx([k / 10 for k in range(11)])
    assert gone.probabilities[1].tolist() == pytest.approx([1 - k / 10 for k in range(11)], abs=1e-6)
    assert gone.area.tolist() == pytest.approx([0.5, 0.5], abs=1e-6)
    come = insertion(counting, ones, maps, 0, baseline="mean", steps=10)
    assert come.probabilities[0].tolist() == pytest.approx([k / 10 for k in range(11)], abs=1e-6)
    assert come.area.tolist() == pytest.approx([0.5, 0.5], abs=1e-6)


def test_areas_worked_out_by_hand(counting):
    # A quarter of 16 pixels is 1. Deleted first, the probability falls 1/4, 0, 0, 0, 0 over four steps: area 1/32.
    # Deleted last it stays 1/4 until the last step: 3/4 * 1/4 + 1/32.
    picture = torch.zeros(1, 1, 4, 4)
    picture[:, :, 0] = 1
    first = picture[:, 0].clone()
    assert deletion(counting, picture, first, 0, steps=4).area.item() == pytest.approx(1 / 32, abs=1e-6)
    assert deletion(counting, picture, -first, 0, steps=4).area.item() == pytest.approx(7 / 32, abs=1e-6)
    assert insertion(counting, picture, first, 0, baseline="mean", steps=4).area.item() == pytest.approx(
        7 / 32, abs=1e-6
    )


def test_pixels_go_in_the_order_of_the_map(corner, bright, where_it_looks):
    maps = where_it_looks(bright, None)
    gone = deletion(corner, bright, maps, 0, steps=4)
    assert gone.probabilities[:, 1].tolist() == pytest.approx([0.5] * 12)
    last = deletion(corner, bright, -maps, 0, steps=4)
    assert torch.allclose(last.probabilities[:, 3], last.probabilities[:, 0])
    assert (gone.area < last.area).all()


def test_a_map_without_any_preference_removes_pixels_at_random_and_not_from_the_top():
    ranks = pixel_ranks(torch.zeros(2, 20, 20))
    assert not torch.equal(ranks[0], ranks[1])
    assert 150 < ranks[:, :10].double().mean() < 250
    assert torch.equal(ranks, pixel_ranks(torch.zeros(2, 20, 20)))
    assert not torch.equal(ranks, pixel_ranks(torch.zeros(2, 20, 20), seed=1))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(0, 10_000))
def test_ranks_are_a_permutation_that_follows_the_map(count, height, width, seed):
    maps = torch.randint(0, 4, (count, height, width), generator=torch.Generator().manual_seed(seed)).float()
    ranks = pixel_ranks(maps, seed)
    for values, places in zip(maps.flatten(1), ranks.flatten(1), strict=True):
        assert sorted(places.tolist()) == list(range(height * width))
        in_order = values[places.argsort()]
        assert (in_order.diff() <= 0).all()


def test_coarse_maps_are_enlarged_as_heat_maps_are_drawn():
    from cutaway.heatmaps import resize

    maps = torch.rand(2, 3, 3)
    found = fitted_maps(maps, torch.zeros(2, 1, 8, 9))
    assert torch.allclose(found[1], torch.from_numpy(resize(maps[1].numpy(), 8, 9)), atol=1e-6)


def test_what_does_not_fit_is_an_error_in_words(corner, bright):
    with pytest.raises(InspectionError, match="for each of the 12 pictures"):
        deletion(corner, bright, torch.zeros(3, 4, 4))
    with pytest.raises(InspectionError, match="not finite"):
        insertion(corner, bright, torch.full((12, 4, 4), float("nan")))
    with pytest.raises(InspectionError, match="not 0"):
        insertion(corner, bright, torch.zeros(12, 4, 4), steps=0)


def test_a_half_precision_network_is_judged_on_the_map_s_own_order():
    maps = torch.linspace(1, 1.01, 256).reshape(1, 16, 16)
    places = pixel_ranks(fitted_maps(maps, torch.zeros(1, 3, 16, 16, dtype=torch.bfloat16)))
    assert places.flatten().tolist() == list(range(255, -1, -1))
