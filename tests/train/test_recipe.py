"""Schedules against the closed form, parameter groups by name, orders by their properties."""

import math

import pytest
import torch

from cutaway.networks import NetworkSpec, build
from cutaway.train import TrainSettings
from cutaway.train.order import epoch_order, whole_batches
from cutaway.train.recipe import learning_rate, make_optimizer


def test_cosine_with_warm_up_by_hand():
    settings = TrainSettings(lr=1.0, warmup_steps=4)
    rates = [learning_rate(settings, step, 100) for step in range(101)]
    assert rates[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert rates[52] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)
    assert rates[28] == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))


def test_warm_up_takes_at_most_a_tenth_of_a_cosine_run():
    settings = TrainSettings(lr=1.0, warmup_steps=100)
    assert learning_rate(settings, 5, 50) == 1.0


def test_a_constant_rate_does_not_know_how_long_the_run_is():
    settings = TrainSettings(lr=1.0, schedule="constant", warmup_steps=3)
    assert [learning_rate(settings, step, 10) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert learning_rate(settings, 2, 10) == learning_rate(settings, 2, 1000)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_norms_and_biases_are_not_decayed(name):
    network = build(NetworkSpec(name="fashion-cnn-bn", num_classes=10, input_shape=(1, 28, 28)))
    optimizer = make_optimizer(network, TrainSettings(optimizer=name, weight_decay=0.1))
    decay = {parameter: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    for parameter_name, parameter in network.named_parameters():
        decayed = parameter_name in {f"{layer}.weight" for layer in ("conv1", "conv2", "fc1", "fc2", "out")}
        assert decay[parameter] == (0.1 if decayed else 0.0), parameter_name


def test_one_step_of_sgd_by_hand():
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(network.weight, 2.0)
    optimizer = make_optimizer(network, TrainSettings(optimizer="sgd", lr=0.5, momentum=0.0, weight_decay=0.1))
    (3 * network.weight).sum().backward()
    optimizer.step()
    assert network.weight.item() == pytest.approx(2.0 - 0.5 * (3 + 0.1 * 2.0))


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
