"""A plateau against torch's, and by hand."""

import json

import pytest
import torch

from cutaway.train import Callback, TrainSettings, train
from cutaway.train.recipe import follow_plateau, learning_rate, plateau_scale
from cutaway.train.recipe.plateau import Plateau

LOSSES = [3.0, 2.0, 2.1, 1.99999, 2.0, 1.5, 1.6, 1.6, 1.6, 1.6, 1.6, float("nan"), 1.6, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(("patience", "cooldown"), [(0, 0), (2, 0), (1, 2)])
def test_it_is_torch_s(mode, patience, cooldown):
    settings = TrainSettings(
        lr=1.0,
        schedule="plateau",
        warmup_steps=0,
        schedule_factor=0.5,
        lr_min=0.01,
        plateau_patience=patience,
        plateau_threshold=0.01,
        plateau_cooldown=cooldown,
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, 0.5, patience, threshold=0.01, cooldown=cooldown, min_lr=0.01
    )
    remembered = {}
    for epoch, value in enumerate(LOSSES):
        value = value if mode == "min" else 10 - value
        scheduler.step(value)
        follow_plateau(settings, remembered, value, mode)
        remembered = json.loads(json.dumps(remembered))
        ours = learning_rate(settings, 5 * epoch, 5, plateau_scale(remembered))
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"]), epoch
    assert optimizer.param_groups[0]["lr"] < 1


def test_a_drop_by_hand():
    settings = TrainSettings(schedule="plateau", plateau_patience=1)
    plateau, scales = Plateau(), []
    for accuracy in (0.5, 0.6, 0.6, 0.6, 0.7):
        plateau = plateau.after(accuracy, "max", settings)
        scales.append(plateau.scale)
    assert scales == [1, 1, 1, 0.1, 0.1]
    assert (plateau.best, plateau.waited) == (0.7, 0)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_of_a_negative_metric_the_same_again_is_no_better(mode):
    """torch's relative threshold takes even a little worse for better there, so that the rate never drops."""
    plateau = Plateau()
    for _ in range(3):
        plateau = plateau.after(-2.0, mode, TrainSettings(schedule="plateau", plateau_patience=1))
    assert plateau.scale == 0.1


def test_another_metric_is_not_compared_with_the_best_of_the_one_before():
    settings = TrainSettings(schedule="plateau", plateau_patience=0, monitor="valid_loss")
    before = Plateau().after(2.3, "min", settings)
    after = before.after(0.5, "max", settings.changed(monitor="valid_accuracy"))
    assert (after.best, after.scale) == (0.5, 1)


def test_a_training_s_steps_take_the_rate_that_the_plateau_left(pictures, tmp_path):
    """No epoch is better by so much than the first, so that the rate drops after each but that one."""

    class Rates(Callback):
        def __init__(self):
            self.seen = {}

        def on_step(self, event):
            self.seen[event.epoch] = event.lr

    changes = {"schedule": "plateau", "lr": 0.01, "warmup_steps": 0, "plateau_patience": 0, "plateau_threshold": 0.999}
    settings = TrainSettings(data=f"folder:{pictures}", network="linear", out=tmp_path / "run", epochs=4, **changes)
    rates = Rates()
    trained = train(settings.changed(monitor="valid_loss"), callbacks=[rates])
    wanted = [0.01, 0.01, 0.001, 0.0001]
    assert [rates.seen[epoch] for epoch in (1, 2, 3, 4)] == pytest.approx(wanted)
    assert [metrics.lr for metrics in trained.metrics] == pytest.approx(wanted)
