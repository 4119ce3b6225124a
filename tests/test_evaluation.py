"""Batches and evaluation against answers worked out by hand and by scikit-learn."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss
from torch import nn

from cutaway.batches import Feed
from cutaway.datasets import Split
from cutaway.errors import CutawayError
from cutaway.evaluation import Evaluation, evaluate
from cutaway.preprocessing import Preprocessing

SPEC = Preprocessing(size=(4, 4), resize="shorter", resize_to=6, mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.fixture
def split(tmp_path):
    noise = np.random.default_rng(0)
    paths = []
    for number in range(7):
        paths.append(tmp_path / f"{number}.png")
        pixels = noise.integers(0, 256, (9 + number, 11, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(paths[-1])
    return Split("test", np.array([0, 1, 2, 0, 1, 2, 0]), paths=tuple(paths))


def test_accuracy_loss_and_confusion_are_scikit_learn_s():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 5, generator=generator)
    labels = torch.randint(0, 5, (200,), generator=generator)
    answers = Evaluation(logits, labels)
    assert answers.accuracy == accuracy_score(labels, answers.predictions)
    assert answers.loss == pytest.approx(log_loss(labels, logits.double().softmax(1), labels=range(5)), rel=1e-9)
    assert np.array_equal(answers.confusion, confusion_matrix(labels, answers.predictions))


def test_rows_of_the_confusion_matrix_are_the_truth():
    answers = Evaluation(torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1, 0]))
    assert answers.confusion.tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_from_files_are_the_same_for_any_number_of_workers(split, workers):
    feed = Feed(split, SPEC, workers=workers)
    state = torch.get_rng_state()
    batches = list(feed.batches(3, torch.tensor([6, 0, 3, 1])))
    assert torch.equal(torch.get_rng_state(), state)
    assert [batch.indices.tolist() for batch in batches] == [[6, 0, 3], [1]]
    assert [batch.labels.tolist() for batch in batches] == [[0, 0, 0], [1]]
    for index, pixels in zip([6, 0, 3, 1], torch.cat([batch.images for batch in batches]), strict=True):
        assert np.array_equal(pixels.numpy(), SPEC.picture(split.image(index)))


@pytest.mark.parametrize("workers", [0, 2])
def test_files_are_decoded_by_so_many_processes(split, workers):
    def write_down_who(image, key):
        return np.frombuffer(os.getpid().to_bytes(12, "little"), np.uint8).reshape(2, 2, 3)

    batches = Feed(split, SPEC, workers=workers).batches(1, prepare=write_down_who)
    processes = {int.from_bytes(batch.images.numpy().tobytes(), "little") for batch in batches}
    assert len(processes) == max(workers, 1)
    assert (os.getpid() in processes) == (workers == 0)


def test_by_default_files_are_decoded_by_a_process_a_core_and_own_objects_by_none(split, monkeypatch):
    monkeypatch.setattr("cutaway.batches.sys.platform", "linux")
    for cores, expected in ((1, 1), (3, 3), (64, 4)):
        monkeypatch.setattr(
            "cutaway.batches.os.sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False
        )
        assert Feed(split, SPEC, workers=None).workers == expected
    photos = Split("test", split.labels, photos=[split.image(index) for index in range(len(split))])
    assert Feed(photos, SPEC, workers=None).workers == 0
    monkeypatch.setattr("cutaway.batches.sys.platform", "darwin")
    assert Feed(split, SPEC, workers=None).workers == 0


def test_inputs_from_files_and_from_memory_are_the_same(split):
    """Pictures that went through the geometry already must not go through it again."""
    prepared = np.stack([SPEC.picture(split.image(index)) for index in range(len(split))])
    in_memory = Split("test", split.labels, images=prepared, prepared=True)
    expected = torch.from_numpy(SPEC.normalise(prepared))
    for feed in (Feed(split, SPEC), Feed(in_memory, SPEC)):
        (batch,) = feed.batches(10)
        assert torch.equal(feed.inputs(batch), expected)
        assert torch.equal(feed.pictures(batch), torch.from_numpy(prepared).permute(0, 3, 1, 2))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_went_bad_is_told_in_words_from_a_worker_too(split, workers):
    split.paths[4].write_bytes(b"not a picture")
    with pytest.raises(CutawayError) as error:
        list(Feed(split, SPEC, workers=workers).batches(2))
    assert "4.png" in error.value.message
    assert "Traceback" not in str(error.value)


def test_evaluation_leaves_modes_and_statistics_alone(split):
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(48, 3))
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first = evaluate(network, split, SPEC, batch_size=2)
    second = evaluate(network, split, SPEC, batch_size=7)
    assert torch.allclose(first.logits, second.logits, atol=1e-6)
    assert first.labels.tolist() == split.labels.tolist()
    assert [module.training for module in network] == [True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
