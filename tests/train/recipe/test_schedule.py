"""Schedules against closed forms, and step by step against torch's own schedulers."""

import math

import pytest
import torch
from torch.optim import lr_scheduler

from cutaway.errors import SettingsError
from cutaway.settings import validated
from cutaway.settings.schedule import ENDS_WITH_THE_RUN
from cutaway.train import TrainSettings
from cutaway.train.recipe import cycled_momentum, learning_rate, make_optimizer, set_momentum
from cutaway.train.recipe.schedule import _SCHEDULES
from cutaway.train.recipe_notes import recipe_notes


def rates(steps, steps_per_epoch, **settings):
    settings = TrainSettings(**{"lr": 1.0, "warmup_steps": 0} | settings)
    return [learning_rate(settings, step, steps_per_epoch) for step in range(steps)]


def torch_rates(make, steps, lr=1.0):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_cosine_with_warm_up_by_hand():
    found = rates(101, 100, epochs=1, warmup_steps=4)
    assert found[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert found[52] == pytest.approx(0.5)
    assert found[100] == pytest.approx(0.0)
    assert found[28] == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))


def test_warm_up_takes_at_most_a_tenth_of_a_run_that_the_schedule_ends_with():
    for schedule in ENDS_WITH_THE_RUN - {"one-cycle"}:
        assert rates(6, 50, epochs=1, warmup_steps=100, schedule=schedule)[5] == 1.0


def test_a_warm_up_longer_than_the_run_is_told_where_it_is_not_cut():
    run = {"epochs": 2, "batch_size": 10, "accumulate": 2, "lr": 0.01}  # of 101 pictures, the last of which is left out
    for schedule in _SCHEDULES.keys() - {"one-cycle"}:  # which has a rise of its own
        more = {"schedule": schedule, "schedule_milestones": (1,) if schedule == "multi-step" else ()} | run
        told = recipe_notes(TrainSettings(warmup_steps=11, **more), 101, 0)
        if schedule in ENDS_WITH_THE_RUN:
            assert told == []
        else:
            (note,) = told
            assert note.startswith("The warm-up of 11 steps is longer than this run's 10, ")
            assert note.endswith("so that the rate never reaches 0.01; give a smaller --warmup-steps.")
        assert recipe_notes(TrainSettings(warmup_steps=10, **more), 101, 0) == []


def test_schedules_that_go_on_do_not_know_how_long_the_run_is():
    more = {"schedule_milestones": (2, 5), "warmup_steps": 3, "schedule_every": 2}
    for schedule in set(_SCHEDULES) - ENDS_WITH_THE_RUN:
        short, long = (rates(30, 5, epochs=epochs, schedule=schedule, **more) for epochs in (6, 600))
        assert short == long
        assert short[:3] == pytest.approx([0.25, 0.5, 0.75]), schedule
    for schedule in ENDS_WITH_THE_RUN:
        short, long = (rates(30, 5, epochs=epochs, schedule=schedule, **more) for epochs in (6, 600))
        assert short != long


# Settings that count steps, and torch's scheduler stepped as often; over 20 steps, two epochs of ten.
AS_TORCH = {
    "step": (
        {"schedule_every": 3, "schedule_factor": 0.5},
        lambda o: lr_scheduler.StepLR(o, 3, gamma=0.5),
    ),
    "multi-step": (
        {"schedule_milestones": (4, 9, 10)},
        lambda o: lr_scheduler.MultiStepLR(o, [4, 9, 10], gamma=0.1),
    ),
    "exponential": ({}, lambda o: lr_scheduler.ExponentialLR(o, gamma=0.95)),
    "cosine": ({"lr_min": 0.2}, lambda o: lr_scheduler.CosineAnnealingLR(o, 20, eta_min=0.2)),
    "cosine-restarts": (
        {"lr_min": 0.1, "schedule_every": 3, "schedule_growth": 2},
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, T_mult=2, eta_min=0.1),
    ),
    "linear": ({"lr_min": 0.25}, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.25, total_iters=20)),
    "polynomial": ({"schedule_power": 3}, lambda o: lr_scheduler.PolynomialLR(o, 20, power=3)),
    "one-cycle": ({}, lambda o: lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=21)),
    "inverse-sqrt": ({}, lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / math.sqrt(1 + t))),
}


@pytest.mark.parametrize("name", AS_TORCH)
def test_each_is_torch_s_step_by_step(name):
    settings, make = AS_TORCH[name]
    total = 21 if name == "one-cycle" else 20
    ours = rates(total - 1, total, epochs=1, schedule=name, schedule_per="step", **settings)
    assert ours == pytest.approx(torch_rates(make, total - 1), rel=1e-9, abs=1e-12)
    assert len(set(ours)) > 2


@pytest.mark.parametrize("name", AS_TORCH)
def test_each_is_torch_s_epoch_by_epoch(name):
    settings, make = AS_TORCH[name]
    epochs = 21 if name == "one-cycle" else 20
    ours = rates(4 * (epochs - 1), 4, epochs=epochs, schedule=name, schedule_per="epoch", **settings)
    theirs = torch_rates(make, epochs - 1)
    assert ours == pytest.approx([rate for rate in theirs for _ in range(4)], rel=1e-9, abs=1e-12)


def test_warm_up_and_cosine_are_torch_s_two_in_sequence():
    def make(optimizer):
        warmup = lr_scheduler.LinearLR(optimizer, start_factor=1 / 5, total_iters=4)
        cosine = lr_scheduler.CosineAnnealingLR(optimizer, 36)
        return lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[4])

    assert rates(40, 40, epochs=1, warmup_steps=4) == pytest.approx(torch_rates(make, 40), abs=1e-12)


def test_a_warm_up_does_not_move_the_epochs_at_which_a_rate_drops():
    found = rates(8, 4, epochs=9, schedule="step", schedule_every=1, warmup_steps=15)
    assert found == pytest.approx([(step + 1) / 16 * 0.1 ** (step // 4) for step in range(8)])


def test_an_inverse_square_root_goes_on_where_the_warm_up_ends():
    found = rates(100, 10, epochs=10, schedule="inverse-sqrt", warmup_steps=16)
    assert found[15] == pytest.approx(16 / 17)
    assert found[16] == 1.0
    assert found[64] == pytest.approx(math.sqrt(16 / 64))


def test_a_trapezoid_is_flat_for_four_fifths():
    found = rates(50, 10, epochs=5, schedule="trapezoid", lr_min=0.5)
    assert found[:40] == [1.0] * 40
    assert found[45] == pytest.approx(0.75)


def test_by_itself_a_step_schedule_counts_epochs_and_a_cosine_steps():
    assert rates(9, 3, epochs=3, schedule="step", schedule_every=2) == [1.0] * 6 + [0.1] * 3
    assert len(set(rates(9, 3, epochs=3))) == 9
    assert len(set(rates(9, 3, epochs=3, schedule_per="epoch"))) == 3


@pytest.mark.parametrize(("optimizer", "read"), [("sgd", lambda g: g["momentum"]), ("adam", lambda g: g["betas"][0])])
def test_one_cycle_takes_the_momentum_along_as_torch_s(optimizer, read):
    settings = TrainSettings(optimizer=optimizer, schedule="one-cycle", epochs=3, momentum=0.9)
    network = torch.nn.Linear(1, 1)
    ours, theirs = make_optimizer(network, settings), make_optimizer(network, settings)
    scheduler = lr_scheduler.OneCycleLR(theirs, max_lr=settings.lr, total_steps=30)
    for step in range(29):
        set_momentum(ours, cycled_momentum(settings, step, 10))
        assert read(ours.param_groups[0]) == pytest.approx(read(theirs.param_groups[0])), step
        theirs.step()
        scheduler.step()
    assert cycled_momentum(TrainSettings(), 3, 10) is None
    assert cycled_momentum(TrainSettings(schedule="one-cycle", cycle_momentum=None), 3, 10) is None


@pytest.mark.parametrize("schedule", sorted(_SCHEDULES))
@pytest.mark.parametrize(("epochs", "steps_per_epoch"), [(1, 1), (1, 2), (2, 1), (3, 7)])
def test_no_run_is_too_short(schedule, epochs, steps_per_epoch):
    found = rates(epochs * steps_per_epoch, steps_per_epoch, epochs=epochs, schedule=schedule, schedule_milestones=(1,))
    assert all(0 <= rate <= 1 for rate in found)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"lr": 0.1, "lr_min": 0.2}, "lr_min"),
        ({"schedule": "multi-step"}, "schedule_milestones"),
        ({"schedule_milestones": (3, 3)}, "schedule_milestones"),
        ({"cycle_momentum": (0.9, 0.8)}, "cycle_momentum"),
        ({"schedule": "cosin"}, "schedule"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(values, name):
    with pytest.raises(SettingsError, match=f"'{name}"):
        validated(values)
