"""Draws: a function of where they are needed, evenly spread, and independent."""

import numpy as np
import torch

from cutaway.train.augmentation.draws import draws_for

CPU = torch.device("cpu")


def test_a_sample_draws_the_same_in_any_batch_and_order():
    indices = np.arange(100)
    whole = draws_for("flip", 1, 2, indices)
    order = np.array([70, 3, 99])
    some = draws_for("flip", 1, 2, indices[order])
    assert np.array_equal(some.uniform(4), whole.uniform(4)[order])
    assert torch.equal(some.pixels(5, 7, CPU), whole.pixels(5, 7, CPU)[order])


def test_purpose_seed_epoch_sample_and_slot_each_change_the_draw():
    first = draws_for("flip", 1, 2, np.array([3])).uniform(0)
    others = [
        draws_for("crop", 1, 2, np.array([3])).uniform(0),
        draws_for("flip", 2, 2, np.array([3])).uniform(0),
        draws_for("flip", 1, 3, np.array([3])).uniform(0),
        draws_for("flip", 1, 2, np.array([4])).uniform(0),
        draws_for("flip", 1, 2, np.array([3])).uniform(1),
        draws_for("flip", 12, 2, np.array([3])).uniform(0),
    ]
    assert len({float(number[0]) for number in [first, *others]}) == 7


def test_numbers_are_spread_evenly_and_do_not_follow_one_another():
    draws = draws_for("x", 0, 0, np.arange(100_000))
    one, other = draws.uniform(0), draws.uniform(1)
    counts = np.histogram(one, 50, (0, 1))[0]
    # 49 degrees of freedom: above 90 once in some 3,000 seeds.
    assert ((counts - 2000) ** 2 / 2000).sum() < 90
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.015
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 0.015


def test_whole_numbers_take_every_value_below_the_limit():
    draws = draws_for("x", 0, 0, np.arange(10_000))
    assert set(draws.below(5, 0).tolist()) == {0, 1, 2, 3, 4}
    limits = np.arange(10_000) % 3 + 1
    assert (draws.below(limits, 0) < limits).all()


def test_pixels_are_spread_evenly_over_pictures_and_places():
    pixels = draws_for("x", 0, 0, np.arange(400)).pixels(28, 28, CPU)
    assert pixels.shape == (400, 28, 28)
    counts = torch.histc(pixels, 50, 0, 1)
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 90
    assert (pixels.mean((1, 2)) - 0.5).abs().max() < 5 * 0.2887 / 28
    assert (pixels.mean(0) - 0.5).abs().max() < 5 * 0.2887 / 20
    together = torch.corrcoef(pixels.reshape(400, -1)[:, :300].T) - torch.eye(300)
    assert together.abs().max() < 6 / 20


def test_nothing_is_drawn_from_the_global_generators():
    torch.manual_seed(0)
    np.random.seed(0)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    draws_for("x", 0, 0, np.arange(4)).pixels(2, 2, CPU)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
