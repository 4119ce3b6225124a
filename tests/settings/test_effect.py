"""Settings that change nothing are told of, and only those."""

import pytest

from cutaway.settings import TrainSettings
from cutaway.settings.effect import without_effect


@pytest.mark.parametrize(
    ("idle", "with_part"),
    [
        ({"momentum": 0.5}, {"optimizer": "sgd"}),
        ({"betas": (0.8, 0.9), "optimizer": "sgd"}, {"optimizer": "nadam"}),
        ({"alpha": 0.5}, {"optimizer": "rmsprop"}),
        ({"rho": 0.5}, {"optimizer": "adadelta"}),
        ({"eps": 1e-6, "optimizer": "sgd"}, {"optimizer": "adagrad"}),
        ({"focal_gamma": 1.0}, {"loss": "focal"}),
        ({"lr_min": 1e-4, "schedule": "step"}, {"schedule": "plateau"}),
        ({"schedule_factor": 0.5}, {"schedule": "step"}),
        ({"schedule_every": 3}, {"schedule": "cosine-restarts"}),
        ({"schedule_growth": 2}, {"schedule": "cosine-restarts"}),
        ({"schedule_milestones": (3,)}, {"schedule": "multi-step"}),
        ({"schedule_power": 3.0}, {"schedule": "polynomial"}),
        ({"plateau_patience": 1}, {"schedule": "plateau"}),
        ({"plateau_threshold": 0.1}, {"schedule": "plateau"}),
        ({"plateau_cooldown": 1}, {"schedule": "plateau"}),
        ({"cycle_rise": 0.5}, {"schedule": "one-cycle"}),
        ({"cycle_momentum": None}, {"schedule": "one-cycle"}),
        ({"warmup_steps": 5, "schedule": "one-cycle"}, {"schedule": "linear"}),
        ({"min_delta": 0.1}, {"patience": 3}),
    ],
)
def test_a_setting_without_a_part_is_named_once(idle, with_part):
    told = without_effect(TrainSettings(**idle))
    assert len(told) == 1
    assert told[0].startswith(f"--{next(iter(idle)).replace('_', '-')} does nothing")
    assert without_effect(TrainSettings(**idle | with_part)) == []


def test_defaults_are_nobody_s_wish():
    assert without_effect(TrainSettings()) == []
    assert without_effect(TrainSettings(optimizer="sgd", schedule="one-cycle")) == []


def test_the_sentence_says_where_it_would_count():
    assert without_effect(TrainSettings(momentum=0.5)) == [
        "--momentum does nothing with --optimizer adamw; it is of rmsprop and sgd."
    ]
