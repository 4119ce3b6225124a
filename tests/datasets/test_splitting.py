from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway import datasets
from cutaway.datasets.splitting import apportion, stratified
from cutaway.errors import DataError


def test_largest_remainder_by_hand():
    limits = np.array([99, 99, 99])
    # Quotas 4.7, 3.2, 2.1: the one seat left goes to the first.
    assert apportion(10, np.array([0.47, 0.32, 0.21]), limits).tolist() == [5, 3, 2]
    # Quotas 3.33 each: the first wins the tie.
    assert apportion(10, np.array([1 / 3, 1 / 3, 1 / 3]), limits).tolist() == [4, 3, 3]
    # Quotas 8, 1, 1, but the first may have five only.
    assert apportion(10, np.array([0.8, 0.1, 0.1]), np.array([5, 9, 9])).tolist() in ([5, 3, 2], [5, 2, 3])


@given(st.lists(st.integers(1, 40), min_size=2, max_size=8), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_a_split_is_a_partition_of_the_right_sizes(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    keys = [f"k{index}" for index in range(len(labels))]
    if sum(counts) - len(counts) < 2:
        with pytest.raises(DataError, match="too few"):
            stratified(labels, keys, {"valid": 0.1, "test": 0.1}, seed=seed)
        return
    split = stratified(labels, keys, {"valid": 0.1, "test": 0.1}, seed=seed)
    assert sorted(np.concatenate(list(split.values())).tolist()) == list(range(len(labels)))
    assert set(labels[split["train"]]) == set(range(len(counts)))
    for name in ("valid", "test"):
        assert len(split[name]) == max(1, int(len(labels) * 0.1 + 0.5))
        share = np.bincount(labels[split[name]], minlength=len(counts))
        # No class is more than a sample away from its due, but for classes that give none so as to keep one.
        if min(counts) > 4:
            assert np.abs(share - np.array(counts) * len(split[name]) / len(labels)).max() < 1.5


def test_the_order_of_the_samples_does_not_matter():
    labels = np.array([0] * 30 + [1] * 20)
    keys = [f"{label}/{index}" for index, label in enumerate(labels)]
    shuffled = np.random.default_rng(0).permutation(50)
    split = stratified(labels, keys, {"valid": 0.2}, seed=3)
    other = stratified(labels[shuffled], [keys[index] for index in shuffled], {"valid": 0.2}, seed=3)
    for name in ("train", "valid"):
        assert {keys[index] for index in split[name]} == {keys[shuffled[index]] for index in other[name]}


def test_another_seed_gives_another_split_and_the_same_seed_the_same():
    labels, keys = np.zeros(50, dtype=np.int64), [str(index) for index in range(50)]
    valid = [stratified(labels, keys, {"valid": 0.2}, seed=seed)["valid"].tolist() for seed in (0, 0, 1)]
    assert valid[0] == valid[1] != valid[2]
    # Written down once: a change would move test images into everyone's training set.
    assert valid[0] == [1, 4, 8, 14, 18, 22, 29, 31, 48, 49]


def test_tiny_classes_keep_a_training_sample_and_small_sets_spread_over_the_classes():
    labels = np.repeat(np.arange(10), 5)
    split = stratified(labels, [str(index) for index in range(50)], {"valid": 0.1, "test": 0.1}, seed=0)
    assert np.bincount(labels[split["train"]]).tolist() == [4] * 10
    lonely = np.array([0] * 20 + [1])
    split = stratified(lonely, [str(index) for index in range(21)], {"valid": 0.3}, seed=0)
    assert 20 in split["train"]


class TestShares:
    def test_a_folder_is_split_by_ratio_class_by_class(self, make_folder, pets):
        folder = f"folder:{make_folder(pets)}"
        found = datasets.load(folder, valid_share=0.2, test_share=0.3)
        assert found.counts() == {"train": (15, 10), "valid": (6, 4), "test": (9, 6)}
        paths = [set(found.split(name).paths) for name in datasets.SPLITS]
        assert len(set.union(*paths)) == 50
        again = datasets.load(folder, valid_share=0.2, test_share=0.3)
        assert again.fingerprint == found.fingerprint != datasets.load(folder).fingerprint
        assert again.fingerprint != datasets.load(folder, valid_share=0.2, test_share=0.3, seed=1).fingerprint

    def test_a_test_share_of_nothing_gives_no_test(self, make_folder, pets):
        assert datasets.load(f"folder:{make_folder(pets)}", test_share=0).counts()["test"] == (0, 0)
        pooled = datasets.load("fashion-mnist-sample", resplit=True, test_share=0, duplicates="warn")
        assert [len(pooled.split(name)) for name in datasets.SPLITS] == [6300, 700, 0]

    def test_the_test_of_a_built_in_set_stays_and_valid_is_cut_from_train(self):
        usual, found = datasets.load("fashion-mnist-sample"), datasets.load("fashion-mnist-sample", valid_share=0.25)
        assert found.counts() == {"train": (450,) * 10, "valid": (150,) * 10, "test": (100,) * 10}
        np.testing.assert_array_equal(found.test.images, usual.test.images)

    def test_a_share_without_effect_is_refused(self, make_folder):
        with pytest.raises(DataError, match=r"test split of its own, so --test-share 0\.2 would do nothing.*--resplit"):
            datasets.load("fashion-mnist-sample", test_share=0.2)
        files = {f"{split}/{label}/{i}.png": i for split in ("train", "valid") for label in "ab" for i in range(8)}
        with pytest.raises(DataError, match="valid split of its own"):
            datasets.load(f"folder:{make_folder(files)}", valid_share=0.3)

    def test_splitting_anew_pools_what_the_data_splits_itself(self, make_folder):
        found = datasets.load("fashion-mnist-sample", resplit=True, valid_share=0.2, test_share=0.2)
        assert found.counts() == {"train": (420,) * 10, "valid": (140,) * 10, "test": (140,) * 10}
        usual = datasets.load("fashion-mnist-sample")
        pools = [
            sorted(image.tobytes() for name in datasets.SPLITS for image in each.split(name).images)
            for each in (usual, found)
        ]
        assert pools[0] == pools[1]
        files = {f"train/{label}/{i}.png": i for label in "ab" for i in range(16)}
        files |= {f"test/{label}/{i}.png": 50 + i for label in "ab" for i in range(4)}
        folder = make_folder(files)
        found = datasets.load(f"folder:{folder}", resplit=True)
        assert found.counts() == {"train": (16, 16), "valid": (2, 2), "test": (2, 2)}
        moved = [path for path in found.test.paths if path.is_relative_to(folder / "train")]
        assert moved
