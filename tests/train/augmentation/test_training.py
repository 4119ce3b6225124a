"""What training does with augmentation: who is varied, who is not, and what is averaged at the end."""

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.batches import Feed
from cutaway.checkpoints import Run, restore
from cutaway.datasets.split import Split
from cutaway.evaluation import evaluate, evaluate_feed
from cutaway.preprocessing import Preprocessing
from cutaway.train import TrainSettings, train
from cutaway.train.preparing import load_data


def small(tmp_path, pictures, **changes):
    base = {"data": f"folder:{pictures}", "network": "lenet5", "epochs": 1, "batch_size": 16, "log_every": 1}
    return TrainSettings(**base | {"image_size": 28, "out": tmp_path / "run"} | changes)


@pytest.fixture
def seen(monkeypatch):
    """What each training step was given: inputs and targets."""
    from cutaway.train import stepping

    steps = []

    def note(session, inputs, targets, lr, **options):
        steps.append((inputs.clone(), targets.clone()))
        return stepping.step(session, inputs, targets, lr, **options)

    monkeypatch.setattr("cutaway.train.epoch.step", note)
    return steps


def inputs_of(seen):
    return torch.cat([inputs for inputs, _ in seen])


@pytest.mark.parametrize("loading", [{}, {"memory_limit": 0}, {"memory_limit": 0, "workers": 2}])
def test_training_pictures_are_varied_and_no_others(tmp_path, pictures, seen, loading):
    plain = small(tmp_path / "plain", pictures)
    train(plain)
    as_they_are = inputs_of(seen)
    seen.clear()
    settings = small(tmp_path, pictures, augment=("invert:1",), **loading)
    trained = train(settings)
    restored = restore(trained.last.path)
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (restored.preprocessing.mean, restored.preprocessing.std)
    )
    levels = (as_they_are * std + mean) * 255
    torch.testing.assert_close(inputs_of(seen), ((255 - levels) / 255 - mean) / std, atol=1e-4, rtol=1e-4)
    # The network's answers to the pictures as they are, and nothing else, are what the journal tells.
    dataset = load_data(settings)
    (epoch,) = [entry for entry in Run(settings.out).journal() if entry["kind"] == "epoch"]
    valid = evaluate(restored.network, dataset.valid, restored.preprocessing)
    assert epoch["valid_loss"] == pytest.approx(valid.loss, rel=1e-5)
    (final,) = [entry for entry in Run(settings.out).journal() if entry["kind"] == "final"]
    test = evaluate(restored.network, dataset.test, restored.preprocessing)
    assert final["test_loss"] == pytest.approx(test.loss, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("words", [("crop:3", "rotate", "trivial", "erase"), ("resized-crop", "flip")])
def test_where_pictures_lie_and_who_decodes_them_changes_nothing(tmp_path, pictures, seen, words):
    runs = []
    for number, loading in enumerate(({}, {"memory_limit": 0}, {"memory_limit": 0, "workers": 2})):
        seen.clear()
        train(small(tmp_path / str(number), pictures, augment=words, epochs=2, **loading))
        runs.append(inputs_of(seen))
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2])
    assert len(runs[0][: len(runs[0]) // 2].unique(dim=0)) == len(runs[0]) // 2


def test_mixed_labels_reach_the_step(tmp_path, pictures, seen):
    train(small(tmp_path, pictures, mixup=0.5))
    for _, targets in seen:
        assert targets.shape[1] == 3
        torch.testing.assert_close(targets.sum(1), torch.ones(len(targets)))
    assert any(0.01 < float(targets.max(1).values.min()) < 0.99 for _, targets in seen)


def test_views_are_averaged_in_a_measurement_of_its_own(tmp_path, pictures):
    settings = small(tmp_path, pictures, tta="ten-crop")
    trained = train(settings)
    (final,) = [entry for entry in Run(settings.out).journal() if entry["kind"] == "final"]
    assert final["tta_test_accuracy"] == trained.tta_accuracy
    assert final["test_accuracy"] == trained.test_accuracy
    assert final["tta_test_loss"] != final["test_loss"]
    assert trained.last.manifest.configuration["tta"] == "ten-crop"
    # Another number of views changes nothing that is trained, and the pictures' place changes none of the views.
    again = train(settings.model_copy(update={"memory_limit": 0}))
    assert again.tta_accuracy == trained.tta_accuracy
    plain = train(settings.model_copy(update={"tta": "none"}))
    assert plain.tta_accuracy is None
    assert plain.test_accuracy == trained.test_accuracy


def test_the_averaged_answer_is_the_mean_of_probabilities():
    class Corner(nn.Module):
        """Answers by the upper left pixel."""

        def forward(self, inputs):
            level = inputs[:, 0, 0, 0]
            return torch.stack([level, torch.zeros_like(level)], 1)

    image = np.zeros((1, 2, 2, 1), np.uint8)
    image[0, 0] = [[255], [0]]
    spec = Preprocessing(size=(2, 2), color="grey", mean=(0.0,), std=(1.0,))
    feed = Feed(Split("test", np.array([0]), image), spec)
    answers = evaluate_feed(Corner(), feed, views="flip")
    first = 1 / (1 + np.exp(-1.0))
    assert answers.probabilities[0, 0].item() == pytest.approx((first + 0.5) / 2)
    assert evaluate_feed(Corner(), feed).logits.tolist() == [[1.0, 0.0]]
