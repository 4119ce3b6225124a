"""What is said of the data, and what is done about uneven classes."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from cutaway.checkpoints import read_tensors
from cutaway.datasets import load
from cutaway.errors import BundleError, SettingsError
from cutaway.settings import validated
from cutaway.train import TrainSettings, train
from cutaway.train.data_notes import data_notes
from cutaway.train.preparing import load_data


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """40 bright pictures, 10 dark ones, and one in train and test both."""
    folder = tmp_path_factory.mktemp("uneven")
    noise = np.random.default_rng(0)
    for split, bright, dark in (("train", 40, 10), ("valid", 5, 5), ("test", 5, 5)):
        for name, number, level in (("bright", bright, 120), ("dark", dark, 90)):
            (folder / split / name).mkdir(parents=True)
            for index in range(number):
                pixels = noise.integers(0, 120, (8, 8, 3)) + level
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{index}.png")
    shutil.copy(folder / "train/bright/3.png", folder / "test/bright/4.png")
    return folder


def asked(folder, **changes):
    base = {"data": f"folder:{folder}", "network": "mlp", "image_size": 8, "epochs": 2, "batch_size": 8}
    return TrainSettings(**base | changes)


def test_uneven_classes_and_duplicates_are_told_in_a_sentence_each(uneven):
    settings = asked(uneven)
    balance, twins = data_notes(settings, load_data(settings))
    assert balance.startswith("The classes are uneven in training pictures: bright 40, dark 10. ")
    assert "--balance loss" in balance
    assert twins.startswith("1 picture stands in more than one split: train/bright/3.png = test/bright/4.png. ")
    assert "--duplicates drop" in twins
    settings = asked(uneven, balance="sample", duplicates="drop")
    balance, twins = data_notes(settings, load_data(settings))
    assert "every class equally often" in balance
    assert "bright 39" in balance
    assert "left out" in twins


def test_many_classes_are_told_by_the_extremes(uneven):
    from dataclasses import replace

    dataset = load(f"folder:{uneven}")
    names = tuple(f"c{index}" for index in range(20))
    many = replace(dataset, classes=names)
    many.train.labels[:] = np.repeat(np.arange(20), [2] * 19 + [12])
    (note,) = data_notes(asked(uneven), many)
    assert "from 2 (c18) to 12 (c19)." in note


def test_copies_within_the_training_split_are_told_with_those_that_have_another_label(uneven, tmp_path):
    copied = shutil.copytree(uneven, tmp_path / "copied")
    (copied / "test/bright/4.png").unlink()
    shutil.copy(copied / "train/bright/7.png", copied / "train/bright/again.png")
    shutil.copy(copied / "train/bright/8.png", copied / "train/dark/other.png")
    settings = asked(copied)
    _, note = data_notes(settings, load_data(settings))
    assert note.startswith("2 training pictures are copies of another training picture, 1 of them with another label,")
    (copied / "train/dark/other.png").unlink()
    _, note = data_notes(settings, load_data(settings))
    assert note.startswith("1 training picture is a copy of another training picture. ")


def test_few_steps_an_epoch_are_told_with_the_option_that_makes_them_more(uneven):
    dataset = load(f"folder:{uneven}")  # 50 training pictures
    notes = {size: data_notes(asked(uneven, batch_size=size), dataset)[1:] for size in (10, 13, 128)}
    assert [len(found) for found in notes.values()] == [0, 1, 1]
    assert notes[13][0].startswith("4 steps an epoch")
    assert notes[128][0].startswith("One step an epoch")
    assert notes[128][0].endswith("give a smaller --batch-size.")
    assert "--accumulate" in data_notes(asked(uneven, batch_size=5, accumulate=4), dataset)[1]


def test_even_classes_are_not_talked_about():
    settings = TrainSettings()
    assert data_notes(settings, load_data(settings)) == []


def test_the_sentences_reach_the_person(uneven, tmp_path):
    notes = []
    more = {"epochs": 1, "schedule": "constant", "freeze_backbone": 1, "out": tmp_path / "run"}
    train(asked(uneven, **more), on_note=notes.append)
    assert sum("classes are uneven" in note or "more than one split" in note for note in notes) == 2
    assert sum("warm-up of 100 steps is longer" in note or "backbone does not learn" in note for note in notes) == 2


def test_balancing_makes_a_network_that_sees_nothing_say_a_half_each(tmp_path):
    """All pictures are alike, so it can learn the classes' shares alone: 0.8 and 0.2, or as balanced as was asked."""
    for split, sizes in (("train", (40, 10)), ("valid", (5, 5))):
        for name, number in zip("ab", sizes, strict=True):
            (tmp_path / "grey" / split / name).mkdir(parents=True)
            for index in range(number):
                Image.new("RGB", (8, 8), (90, 90, 90)).save(tmp_path / "grey" / split / name / f"{index}.png")
    losses = {}
    for balance in ("none", "sample", "loss"):
        settings = asked(tmp_path / "grey", balance=balance, epochs=15, lr=0.01, batch_size=10, test_share=0)
        losses[balance] = train(settings.model_copy(update={"out": tmp_path / balance})).metrics[-1].valid_loss
    assert losses["none"] == pytest.approx(-(np.log(0.8) + np.log(0.2)) / 2, abs=0.05)
    assert losses["sample"] == pytest.approx(np.log(2), abs=0.02)
    assert losses["loss"] == pytest.approx(np.log(2), abs=0.02)


def test_weights_that_a_loss_of_one_s_own_would_ignore_are_refused(uneven, tmp_path):
    with pytest.raises(SettingsError, match="balance='sample'"):
        train(asked(uneven, balance="loss", out=tmp_path / "run"), loss=torch.nn.functional.cross_entropy)


def test_what_changes_the_splits_or_the_order_is_compared_when_a_run_goes_on(uneven, tmp_path, pictures):
    settings = asked(uneven, out=tmp_path / "run", epochs=1)
    train(settings)
    with pytest.raises(BundleError, match=r"balance +was 'none', now 'sample'"):
        train(settings.model_copy(update={"balance": "sample"}))
    with pytest.raises(BundleError, match=r"data +was .*other pictures, labels or splits"):
        train(settings.model_copy(update={"duplicates": "drop"}))
    with pytest.raises(BundleError, match=r"(?s)resplit +was False, now True.*data +was"):
        train(settings.model_copy(update={"resplit": True}))
    settings = asked(pictures, out=tmp_path / "other", epochs=1)
    train(settings)
    with pytest.raises(BundleError, match=r"(?s)valid_share +was 0\.1, now 0\.2.*data +was"):
        train(settings.model_copy(update={"valid_share": 0.2}))


def test_statistics_are_the_training_split_s_alone_and_stored(uneven, tmp_path):
    trained = train(asked(uneven, epochs=1, out=tmp_path / "run"))
    stored = trained.best.manifest.preprocessing
    dataset = load(f"folder:{uneven}")
    pixels = np.stack([stored.picture(dataset.train.image(index)) for index in range(len(dataset.train))]) / 255
    np.testing.assert_allclose(stored.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(stored.std, pixels.std((0, 1, 2)), rtol=1e-12)
    with_test = [stored.picture(dataset.test.image(index)).mean() / 255 for index in range(len(dataset.test))]
    assert np.mean(stored.mean) != pytest.approx(np.mean([pixels.mean(), np.mean(with_test)]), rel=1e-9)
    assert read_tensors(trained.best.path, trained.best.manifest, "model")


def test_shares_that_leave_nothing_are_refused_in_words():
    with pytest.raises(SettingsError, match=r"'test_share' cannot be 0\.5.*below 0\.4, since valid_share 0\.6"):
        validated({"valid_share": 0.6, "test_share": 0.5})
