"""One batch by heart: a network that can, and the three usual reasons why one cannot."""

import random

import pytest
import torch

from cutaway.cli import main
from cutaway.errors import SettingsError
from cutaway.train import TrainSettings, overfit_one_batch, overfitting, stepping


def settings(pictures, **changes):
    base = {"data": f"folder:{pictures}", "network": "lenet5", "image_size": 28, "batch_size": 16, "device": "cpu"}
    return TrainSettings(**base | changes)


def test_a_network_that_can_learn_stops_as_soon_as_it_has(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(3)
    before = torch.get_rng_state(), random.getstate()
    result = overfit_one_batch(settings(pictures))
    assert result.learned
    assert result.images == 16
    assert result.accuracy == 1.0
    assert result.losses[-1] <= 0.05 < result.losses[-2]
    assert len(result.losses) < 500
    assert "The network can learn." in str(result)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert list(tmp_path.iterdir()) == []


def test_it_is_one_batch_without_what_keeps_from_learning_by_heart(pictures, monkeypatch):
    seen = []
    plain = stepping.step

    def step(session, inputs, targets, lr, **named):
        seen.append((inputs.clone(), targets.clone(), lr))
        assert session.settings.weight_decay == session.settings.label_smoothing == 0
        return plain(session, inputs, targets, lr, **named)

    monkeypatch.setattr("cutaway.train.epoch.step", step)
    augmented = {"augment": ("flip",), "mixup": 0.4, "label_smoothing": 0.2, "weight_decay": 0.3, "lr": 1e-5}
    overfit_one_batch(settings(pictures, **augmented), num_steps=5)
    assert len(seen) == 5
    assert all(torch.equal(inputs, seen[0][0]) and torch.equal(targets, seen[0][1]) for inputs, targets, _ in seen)
    assert not seen[0][1].is_floating_point()
    assert {lr for *_, lr in seen} == {1e-5}


def test_dropout_is_off(pictures):
    changes = {"network": "resnet-small", "network_arguments": {"width": 4, "dropout": 0.9}}
    assert overfit_one_batch(settings(pictures, lr=0.01, **changes)).learned


def test_too_low_a_rate_cannot_fit(pictures):
    result = overfit_one_batch(settings(pictures, lr=1e-7), num_steps=20)
    assert not result.learned
    assert len(result.losses) == 20
    assert "cannot fit even one batch" in str(result)


def test_frozen_layers_cannot_fit(pictures, monkeypatch):
    plain = overfitting.Epoch

    def frozen(session, feed):
        epoch = plain(session, feed)
        session.network.requires_grad_(False)
        session.network.conv1.requires_grad_(True)
        return epoch

    monkeypatch.setattr(overfitting, "Epoch", frozen)
    assert not overfit_one_batch(settings(pictures), num_steps=60).learned


def test_no_steps_are_refused(pictures):
    with pytest.raises(SettingsError, match="0 steps"):
        overfit_one_batch(settings(pictures), num_steps=0)


def test_the_command_says_it_and_leaves_no_run(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", "--data", f"folder:{pictures}", "--network", "lenet5", "--image-size", "28", "--batch-size", "16"]
    assert main([*words, "--overfit-one-batch"]) == 0
    assert "The network can learn." in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
