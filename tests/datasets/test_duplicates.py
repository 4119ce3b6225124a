"""Pictures planted in more than one split."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from cutaway import datasets
from cutaway.datasets import builtin
from cutaway.datasets.duplicates import settle
from cutaway.datasets.duplicates import settled as settled_dataset
from cutaway.datasets.split import SPLITS, Split
from cutaway.errors import DataError

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.filterwarnings("ignore::ResourceWarning")]


def splits_of(**labels):
    """One split per word, with so many one-pixel pictures."""
    return [Split(name, np.array(labels[name]), np.zeros((len(labels[name]), 1, 1, 1), np.uint8)) for name in SPLITS]


def settled(contents, policy, **labels):
    def name(split, index):
        return f"{split}{index}"

    return settle("pets", splits_of(**labels), [[c.encode() for c in part] for part in contents], name, policy)


LABELS = {"train": [0, 1, 0, 1, 0], "valid": [0, 1], "test": [1, 0]}


def test_every_pair_of_splits_is_looked_at_and_the_later_one_keeps_the_picture():
    # b stands in train and valid, d in valid and test, e in train and test with another label; c twice in train.
    contents = (["a", "b", "c", "c", "e"], ["b", "d"], ["e", "d"])
    found = settled(contents, "warn", train=[0, 1, 0, 1, 0], valid=[1, 1], test=[1, 1])
    assert found.duplicates.num_pictures == 3
    assert found.duplicates.num_contradictions == 1
    assert found.duplicates.first == (("train1", "valid0"), ("train4", "test0"), ("valid1", "test1"))
    assert [len(split) for split in found.splits] == [5, 2, 2]
    dropped = settled(contents, "drop", train=[0, 1, 0, 1, 0], valid=[1, 1], test=[1, 1])
    assert [split.labels.tolist() for split in dropped.splits] == [[0, 0, 1], [1], [1, 1]]
    assert dropped.contents == [[b"a", b"c", b"c"], [b"b"], [b"e", b"d"]]
    assert dropped.duplicates.dropped


def test_copies_within_train_are_counted_with_those_that_contradict_each_other():
    contents = ([*"abaaxx"], [*"xy"], [*"zw"])  # a three times, of which once with another label; x goes with drop
    for policy, counted in (("warn", (3, 2)), ("drop", (2, 1)), ("error", (2, 1))):
        there = contents if policy != "error" else ([*"abaacd"], *contents[1:])
        found = settled(there, policy, train=[0, 1, 0, 1, 0, 1], valid=[0, 1], test=[1, 0])
        assert (found.duplicates.num_copies, found.duplicates.num_relabelled) == counted
    assert [len(split) for split in found.splits] == [6, 2, 2]


def test_error_refuses_and_names_the_first_few():
    contents = ([*"abcde"], ["a", "b"], ["c", "d"])
    with pytest.raises(DataError, match=r"4 pictures of pets stand in more than one split: train0 = valid0; .*1 more"):
        settled(contents, "error", **LABELS)
    settled(([*"abcde"], [*"fg"], [*"hi"]), "error", **LABELS)


def test_a_class_that_would_lose_its_last_training_picture_is_told_of():
    with pytest.raises(DataError, match="no training picture left for 1 of 2 classes"):
        settled(([*"abcbe"], ["b", "d"], ["x", "y"]), "drop", **LABELS)


def test_where_nobody_asks_nothing_is_compared():
    assert settled(([], [], []), "ignore", **LABELS).duplicates is None


def test_copies_in_a_folder_are_found_by_their_bytes_whatever_their_names(make_folder):
    files = {f"train/{label}/{i}.png": i + 100 * (label == "b") for label in "ab" for i in range(6)}
    files |= {f"test/{label}/{i}.png": 50 + i + 100 * (label == "b") for label in "ab" for i in range(3)}
    files |= {f"valid/{label}/{i}.png": 80 + i + 100 * (label == "b") for label in "ab" for i in range(2)}
    folder = make_folder(files)
    clean = datasets.load(f"folder:{folder}", duplicates="warn")
    assert clean.duplicates.num_pictures == 0
    assert clean.fingerprint == datasets.load(f"folder:{folder}").fingerprint
    shutil.copy(folder / "train/a/3.png", folder / "test/b/copy.png")
    warned = datasets.load(f"folder:{folder}", duplicates="warn")
    assert warned.duplicates.first == (("train/a/3.png", "test/b/copy.png"),)
    assert warned.duplicates.num_contradictions == 1
    dropped = datasets.load(f"folder:{folder}", duplicates="drop")
    assert dropped.counts()["train"] == (5, 6)
    assert folder / "train/a/3.png" not in dropped.train.paths
    assert dropped.fingerprint != warned.fingerprint == datasets.load(f"folder:{folder}").fingerprint
    with pytest.raises(DataError, match="--duplicates drop"):
        datasets.load(f"folder:{folder}", duplicates="error")


def test_copies_in_memory_are_found_by_their_pixels(monkeypatch):
    real = builtin._checked

    def planted(name, images, labels, num_classes):
        images, labels = real(name, images, labels, num_classes)
        if len(images) == 1000:
            images = images.copy()
            images[7] = first
        return images, labels

    first = datasets.load("fashion-mnist-sample").train.images[0]
    monkeypatch.setattr(builtin, "_checked", planted)
    found = datasets.load("fashion-mnist-sample", duplicates="drop")
    assert found.duplicates.first == (("train[0]", "test[7]"),)
    assert len(found.train) == 5399
    assert not (found.train.images == first).all((1, 2, 3)).any()


def test_data_of_one_s_own_is_looked_through_too():
    images = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1), dtype=np.uint8)
    labels = np.arange(12) % 2
    same = datasets.as_dataset(((images[:8], labels[:8]), (images[8:], labels[8:])))
    assert settled_dataset(same, "error") is same
    shared = datasets.as_dataset(((images[:8], labels[:8]), (images[7:], labels[7:])))
    warned = settled_dataset(shared, "warn")
    assert warned.duplicates.first == (("train[7]", "valid[0]"),)
    assert warned.fingerprint == shared.fingerprint
    dropped = settled_dataset(shared, "drop")
    assert len(dropped.train) == 7
    assert dropped.fingerprint != shared.fingerprint


def test_the_sample_shares_no_picture_between_its_splits():
    assert datasets.load("fashion-mnist-sample", duplicates="error").duplicates.num_pictures == 0
