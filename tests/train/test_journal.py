"""What a run writes down of its metrics, and reads again."""

import csv
import json

import numpy as np
import pytest
import torch

from cutaway.checkpoints import Run
from cutaway.errors import SettingsError
from cutaway.evaluation import evaluate
from cutaway.metrics import SCALARS, measure
from cutaway.train import TrainSettings, train
from cutaway.train.journal import LARGEST_CONFUSION, Journal, write_test_metrics


@pytest.fixture
def settings(tmp_path, pictures):
    return TrainSettings(
        data=f"folder:{pictures}", network="lenet5", epochs=2, batch_size=16, image_size=28, out=tmp_path / "run"
    )


def rows_of(run):
    with run.metrics_csv.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_scalar_of_every_epoch_stands_in_csv_json_lines_tensorboard_and_manifest(settings):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained = train(settings)
    run = Run(settings.out)
    names = set(SCALARS) - {"valid_top5_accuracy"}  # the pictures are of three classes
    lines = [entry for entry in run.journal() if entry["kind"] == "epoch"]
    for epoch, line, row in zip(trained.metrics, lines, rows_of(run), strict=True):
        assert names <= set(epoch.scalars())
        for name, value in epoch.scalars().items():
            assert line[name] == value
            assert float(row[name]) == value
        assert row["valid_top5_accuracy"] == ""
    assert trained.last.manifest.metrics == trained.metrics[-1].scalars()
    events = EventAccumulator(str(run.tensorboard))
    events.Reload()
    for name in names:
        values = [event.value for event in events.Scalars(f"{name.removeprefix('valid_')}/valid")]
        assert values == pytest.approx([getattr(epoch, name) for epoch in trained.metrics], rel=1e-6)
    assert "hparam/test_macro_f1" in events.Tags()["scalars"]


def test_the_test_s_metrics_are_those_of_the_best_bundle(settings):
    from cutaway.checkpoints import restore
    from cutaway.datasets import into_memory, load

    trained = train(settings)
    told = json.loads((settings.out / "metrics-test.json").read_text())
    best = restore(trained.best.path)
    dataset = into_memory(load(settings.data), best.preprocessing)
    expected = measure(evaluate(best.network, dataset.test, best.preprocessing))
    assert told["bundle"] == trained.best.path.name
    assert told["samples"] == len(dataset.test)
    assert told["metrics"] == pytest.approx(expected.scalars("test"))
    assert told["confusion"] == expected.confusion.tolist()
    assert [row["label"] for row in told["classes"]] == list(dataset.classes)
    assert [row["support"] for row in told["classes"]] == expected.support.tolist()
    assert trained.test_accuracy == trained.test.accuracy == told["metrics"]["test_accuracy"]
    final = Run(settings.out).journal()[-1]
    assert {name: final[name] for name in told["metrics"]} == told["metrics"]


def test_a_large_confusion_matrix_is_left_out_of_the_file_and_nan_is_a_word(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from cutaway.evaluation import Evaluation

    classes = LARGEST_CONFUSION + 1
    labels = torch.arange(classes)
    measured = measure(Evaluation(torch.full((classes, classes), torch.nan), labels))
    bundle = SimpleNamespace(path=tmp_path / "step-1", manifest=SimpleNamespace(classes=tuple(map(str, labels))))
    run = Run(tmp_path)
    write_test_metrics(run, bundle, measured)
    told = json.loads(run.test_metrics.read_text(), parse_constant=pytest.fail)
    assert told["confusion"] is None
    assert told["metrics"]["test_accuracy"] == "nan"
    assert told["classes"][3]["auroc"] == "nan"


def test_a_journal_of_an_older_or_a_newer_cutaway_is_gone_on_with(settings):
    train(settings.model_copy(update={"schedule": "constant", "epochs": 1}))
    run = Run(settings.out)
    lines = run.metrics_jsonl.read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    for entry in entries:
        if entry["kind"] == "epoch":
            for name in set(SCALARS) - {"valid_loss", "valid_accuracy"}:
                entry.pop(name, None)
            entry["valid_beauty"] = 0.5
    run.metrics_jsonl.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    train(settings.model_copy(update={"schedule": "constant", "epochs": 2}))
    first, second = rows_of(run)
    assert first["valid_ece"] == ""
    assert float(first["valid_accuracy"]) >= 0
    assert float(second["valid_ece"]) >= 0
    assert len(run.metrics_csv.read_text().splitlines()) == 3


def test_the_best_bundle_is_chosen_by_any_scalar_and_its_mode(settings):
    trained = train(settings.model_copy(update={"monitor": "valid_ece", "epochs": 4, "keep_last": 4, "keep_best": 4}))
    errors = [epoch.valid_ece for epoch in trained.metrics]
    assert trained.best.manifest.monitored.mode == "min"
    assert trained.best.manifest.progress.epoch == 1 + int(np.argmin(errors))


def test_lines_after_the_bundle_are_taken_back(tmp_path):
    run = Run(tmp_path)
    journal = Journal(run)
    for step in (1, 2, 3):
        journal.step(step, loss=1.0, lr=0.1)
    journal.final(3, {"test_loss": float("inf")})
    journal.close()
    assert run.journal()[-1]["test_loss"] == "inf"
    Journal(run, step=2).close()
    assert [entry["step"] for entry in run.journal()] == [1, 2]


def test_a_metric_that_so_few_classes_lack_cannot_be_monitored(settings):
    with pytest.raises(SettingsError, match="no valid_top5_accuracy of 3 classes"):
        train(settings.model_copy(update={"monitor": "valid_top5_accuracy"}))
