"""Early stopping against epochs worked out by hand, and a run that is stopped, interrupted and given again."""

import dataclasses
import os
import signal

import pytest

from cutaway.checkpoints import Run, find
from cutaway.checkpoints.manifest import Monitored
from cutaway.cli import main
from cutaway.errors import BundleError, Interrupted, SettingsError
from cutaway.settings import validated
from cutaway.train import TrainSettings, loop, train
from cutaway.train.monitoring import count_epoch, is_over, monitored, stopped_early, why_stopped


def stop_epoch(values, **settings):
    """The epoch after which a run with these values of the metric stops; None where it trains them all."""
    settings = TrainSettings(epochs=len(values), **settings)
    remembered = {}
    for epoch, value in enumerate(values, start=1):
        count_epoch(settings, remembered, epoch, {settings.monitor: value})
        if is_over(settings, epoch, remembered):
            return epoch if stopped_early(settings, epoch, remembered) else None
    raise AssertionError


NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "monitor", "mode", "stops"),
    [
        ([0.5, 0.6, 0.6, 0.6, 0.9], 2, 0.0, "valid_accuracy", "auto", 4),
        ([0.5, 0.6, 0.6, 0.7, 0.6, 0.7, 0.9], 2, 0.0, "valid_accuracy", "auto", 6),
        ([0.5, 0.6, 0.6, 0.6, 0.9], 0, 0.0, "valid_accuracy", "auto", None),
        # Small steps add up: 0.53 is more than 0.02 above 0.50, though no step is.
        ([0.50, 0.515, 0.53, 0.54, 0.545, 0.9], 2, 0.02, "valid_accuracy", "auto", 5),
        ([2.0, 1.0, 1.5, 0.5, 0.6, 0.7, 0.1], 2, 0.0, "valid_loss", "auto", 6),
        ([2.0, 1.0, 1.5, 0.5], 1, 0.0, "valid_loss", "max", 2),
        ([NAN, NAN, 0.5, 0.4, 0.9], 3, 0.0, "valid_accuracy", "auto", None),
        ([NAN, NAN, 0.5, 0.4, 0.9], 2, 0.0, "valid_accuracy", "auto", 2),
        ([float("inf"), 2.0, 1.0, 0.5], 2, 0.0, "valid_loss", "auto", None),
        # Patience that ends with the last epoch stops nothing.
        ([0.5, 0.5, 0.5], 2, 0.0, "valid_accuracy", "auto", None),
    ],
)
def test_the_epoch_of_the_stop_by_hand(values, patience, min_delta, monitor, mode, stops):
    settings = {"patience": patience, "min_delta": min_delta, "monitor": monitor, "monitor_mode": mode}
    assert stop_epoch(values, **settings) == stops


def test_why_it_stopped_is_told_in_numbers():
    settings, remembered = TrainSettings(patience=2, min_delta=0.001), {}
    for epoch, value in enumerate((0.8, 0.81, 0.8105, 0.79), start=1):
        count_epoch(settings, remembered, epoch, {"valid_accuracy": value})
    assert why_stopped(settings, remembered) == (
        "valid_accuracy was no better than the 0.81 of epoch 2 by more than 0.001 for 2 epochs"
    )


def test_another_metric_begins_its_own_count():
    before = TrainSettings(patience=2)
    remembered = {}
    for epoch in (1, 2, 3):
        count_epoch(before, remembered, epoch, {"valid_accuracy": 0.5})
    assert stopped_early(before, 3, remembered)
    assert not stopped_early(before.model_copy(update={"monitor": "valid_loss"}), 3, remembered)
    assert not stopped_early(before.model_copy(update={"monitor_mode": "min"}), 3, remembered)


@pytest.mark.parametrize("state", [7, {"waited": 3}, {"metric": "valid_accuracy", "mode": "max", "waited": "\x1b[2J"}])
def test_a_memory_that_makes_no_sense_is_told_in_words(state):
    with pytest.raises(BundleError, match="early stopping"):
        stopped_early(TrainSettings(patience=1), 3, {"early_stopping": state})


def test_the_mode_follows_the_metric_unless_it_is_given():
    assert monitored(TrainSettings(monitor="valid_loss")) == Monitored(metric="valid_loss", mode="min")
    assert monitored(TrainSettings(monitor="valid_accuracy")) == Monitored(metric="valid_accuracy", mode="max")
    given = TrainSettings(monitor="valid_accuracy", monitor_mode="min")
    assert monitored(given) == Monitored(metric="valid_accuracy", mode="min")


def test_an_unknown_metric_is_refused_with_the_nearest_names():
    with pytest.raises(SettingsError, match=r"'monitor' cannot be 'valid_acuracy'.*valid_accuracy"):
        validated({"monitor": "valid_acuracy"})
    with pytest.raises(SettingsError, match=r"such as valid_accuracy, "):
        validated({"monitor": "valid_acc"})  # spelt like valid_auroc, but short for this


@pytest.fixture
def scripted(monkeypatch):
    """Has the epochs' validation accuracy follow a list, whatever the network does."""

    def script(*accuracies):
        plain = loop.Loop._metrics

        def metrics(self, *arguments):
            found = plain(self, *arguments)
            return dataclasses.replace(found, valid_accuracy=accuracies[found.epoch - 1])

        monkeypatch.setattr(loop.Loop, "_metrics", metrics)

    return script


def small(tmp_path, pictures, **changes):
    base = {"data": f"folder:{pictures}", "network": "mlp", "image_size": 28, "batch_size": 32, "log_every": 1}
    return TrainSettings(**base | {"epochs": 9, "patience": 2, "out": tmp_path} | changes)


def test_a_run_stops_keeps_its_best_bundle_and_does_not_train_on_when_given_again(tmp_path, pictures, scripted):
    scripted(0.5, 0.7, 0.6, 0.65, 0.9)
    settings, notes = small(tmp_path, pictures), []
    trained = train(settings, on_note=notes.append)
    assert trained.stopped_early
    assert [metrics.epoch for metrics in trained.metrics] == [1, 2, 3, 4]
    assert trained.best.manifest.progress.epoch == 2
    assert any("Stopped early after epoch 4 of 9" in note and "0.7 of epoch 2" in note for note in notes)
    bundles, notes = Run(tmp_path).bundle_paths(), []
    again = train(settings, on_note=notes.append)
    assert again.stopped_early
    assert again.metrics == ()
    assert Run(tmp_path).bundle_paths() == bundles
    assert any("Stopped early after epoch 4" in note for note in notes)


def test_more_patience_trains_on(tmp_path, pictures, scripted):
    scripted(0.5, 0.7, 0.6, 0.65, 0.6, 0.8, 0.7, 0.7, 0.7)
    train(small(tmp_path, pictures))
    more = train(small(tmp_path, pictures, patience=3), override=("patience",))
    assert [metrics.epoch for metrics in more.metrics] == [5]
    assert more.stopped_early


@pytest.mark.parametrize("stopped_in", [2, 3, 4])
def test_an_interrupted_run_stops_where_the_uninterrupted_one_does(tmp_path, pictures, scripted, stopped_in):
    scripted(0.5, 0.7, 0.6, 0.65, 0.9)
    whole = train(small(tmp_path / "whole", pictures))

    def interrupt(items, description, total=None):
        for item in items:
            if description == f"epoch {stopped_in}/9":
                os.kill(os.getpid(), signal.SIGTERM)
            yield item

    settings = small(tmp_path / "stopped", pictures)
    with pytest.raises(Interrupted):
        train(settings, track=interrupt)
    resumed = train(settings)
    last = find(settings.out, prefer="last").manifest
    assert resumed.stopped_early
    assert last.progress.epoch == 4
    assert last.state == whole.last.manifest.state
    assert last.files == whole.last.manifest.files


def test_the_command_ends_well_and_says_that_it_stopped(tmp_path, pictures, capsys):
    words = ["train", "--data", f"folder:{pictures}", "--network", "mlp", "--image-size", "28", "--epochs", "5"]
    words += ["--patience", "1", "--min-delta", "1", "--out", str(tmp_path / "run")]
    for _ in range(2):
        assert main(words) == 0
        shown = capsys.readouterr()
        assert "Stopped early after epoch 2 of 5" in shown.err
        assert "best bundle" in shown.out
        assert "has all of its" not in shown.out
