"""Orders by their properties."""

import pytest
import torch

from cutaway.train.order import balanced_order, draw_keys, epoch_order, whole_batches


def test_an_order_is_a_permutation_of_its_own_for_each_seed_and_epoch():
    state = torch.get_rng_state()
    orders = [epoch_order(seed, epoch, 50).tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0), (10, 0), (1, 00))]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert orders[2] == orders[4]


def test_a_last_sample_by_itself_is_left_out():
    assert len(whole_batches(torch.arange(33), 16)) == 32
    assert len(whole_batches(torch.arange(34), 16)) == 34
    assert len(whole_batches(torch.arange(1), 16)) == 1
    assert len(whole_batches(torch.arange(5), 1)) == 5


LABELS = torch.tensor([0] * 70 + [1] * 9 + [3] * 21)[torch.randperm(100, generator=torch.Generator().manual_seed(0))]


def counts(order):
    return LABELS[order].bincount(minlength=4).tolist()


def test_each_class_is_drawn_equally_often_and_the_rest_goes_round():
    seen = [counts(balanced_order(0, epoch, LABELS)) for epoch in range(12)]
    assert all(sorted(row) == [0, 33, 33, 34] for row in seen)
    assert all(row[2] == 0 for row in seen)
    assert len({row.index(34) for row in seen}) == 3


def test_no_sample_comes_again_before_all_of_its_class_came():
    order = balanced_order(5, 3, LABELS)
    times = order.bincount(minlength=100)
    assert set(times[LABELS == 0].tolist()) == {0, 1}
    assert set(times[LABELS == 1].tolist()) == {3, 4}
    assert set(times[LABELS == 3].tolist()) == {1, 2}


def test_it_is_a_function_of_seed_and_epoch_alone():
    state = torch.get_rng_state()
    orders = [balanced_order(seed, epoch, LABELS).tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert torch.equal(torch.get_rng_state(), state)
    assert orders[0] == orders[3]
    assert len({tuple(order) for order in orders}) == 3


def test_classes_are_mixed_within_the_epoch():
    order = LABELS[balanced_order(0, 0, LABELS)]
    assert all(len(part.unique()) == 3 for part in order.split(25))


@pytest.mark.parametrize("labels", [[0], [2, 2, 5], [1, 0]])
def test_tiny_splits(labels):
    assert len(balanced_order(0, 0, torch.tensor(labels))) == len(labels)


def test_a_sample_that_comes_again_draws_by_another_key():
    assert draw_keys(torch.tensor([2, 0, 2, 2, 0]), 4).tolist() == [2, 0, 6, 10, 4]
    order = balanced_order(5, 3, LABELS)
    keys = draw_keys(order, 100)
    assert len(keys.unique()) == 100
    assert torch.equal(keys % 100, order)
    once = epoch_order(0, 0, 50)
    assert torch.equal(draw_keys(once, 50), once)
