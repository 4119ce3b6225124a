"""What comes after the last epoch: measured once, told to TensorBoard, and closed in the journal."""

from dataclasses import replace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cutaway.checkpoints import Run
from cutaway.train import TrainSettings, finishing, keeping, preparing, train

STARTED = "_hparams_/session_start_info"


def settings(pictures, out, **changes):
    base = {"data": f"folder:{pictures}", "network": "mlp", "image_size": 8, "epochs": 2, "batch_size": 16}
    return TrainSettings(**base | {"out": out} | changes)


def board(out):
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return events


def test_a_run_that_died_before_it_was_measured_is_finished_by_the_next_process(pictures, tmp_path, monkeypatch):
    out = tmp_path / "run"

    def dies(*arguments, **options):
        raise RuntimeError("died")

    with monkeypatch.context() as patched:
        patched.setattr(finishing, "evaluate_feed", dies)
        with pytest.raises(RuntimeError, match="died"):
            train(settings(pictures, out))
    assert not Run(out).is_finished()
    assert STARTED not in board(out).summary_metadata
    trained = train(settings(pictures, out))
    assert trained.metrics == ()
    assert Run(out).is_finished()
    shown = board(out)
    assert STARTED in shown.summary_metadata
    best = trained.best.manifest.metrics
    assert shown.Scalars("hparam/valid_loss")[0].value == pytest.approx(best["valid_loss"])
    assert shown.Scalars("hparam/test_accuracy")[0].value == pytest.approx(trained.test_accuracy)


def test_a_finished_run_given_again_tells_nothing_twice(pictures, tmp_path):
    out = tmp_path / "run"
    train(settings(pictures, out))
    before = Run(out).journal()
    train(settings(pictures, out))
    assert Run(out).journal() == before
    assert len(board(out).Scalars("hparam/valid_loss")) == 1


def test_a_run_without_test_pictures_is_finished_too(pictures, tmp_path, monkeypatch):
    def load(*arguments, **options):
        dataset = preparing.load_data(*arguments, **options)
        return replace(dataset, test=dataset.test.take([]))

    monkeypatch.setattr(keeping, "load_data", load)
    trained = train(settings(pictures, tmp_path / "run"))
    assert trained.test_accuracy is None
    assert Run(tmp_path / "run").is_finished()
    assert STARTED in board(tmp_path / "run").summary_metadata
