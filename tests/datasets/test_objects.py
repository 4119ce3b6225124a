"""Data sets from arrays and from map-style data sets."""

import doctest

import numpy as np
import pytest
import torch
from PIL import Image

from cutaway.datasets import Dataset, as_dataset
from cutaway.datasets.split import fingerprint
from cutaway.errors import DataError

GREY = np.arange(40 * 4 * 5, dtype=np.uint8).reshape(40, 4, 5)
LABELS = np.arange(40) % 4


class Items:
    """Twelve samples of two classes, each made by `picture`."""

    classes = ["cat", "dog"]

    def __init__(self, picture, length=12):
        self.picture, self.length = picture, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.picture(index), index % 2


def plain(index):
    return np.full((6, 7, 3), 10 * index, np.uint8)


def test_the_example_in_the_docstring():
    found = doctest.DocTestFinder().find(Dataset.from_arrays, globs={"Dataset": Dataset, "np": np})
    assert [tuple(doctest.DocTestRunner().run(example)) for example in found] == [(0, 3)]


def test_a_share_of_the_arrays_is_set_aside_and_every_picture_keeps_its_label():
    data = Dataset.from_arrays((GREY, LABELS), valid_share=0.25, seed=3)
    assert data.counts() == {"train": (7, 7, 8, 8), "valid": (3, 3, 2, 2), "test": (0, 0, 0, 0)}
    assert data.classes == ("0", "1", "2", "3")
    for split in (data.train, data.valid):
        for index in range(len(split)):
            at = next(at for at in range(40) if np.array_equal(GREY[at], split.image(index)[..., 0]))
            assert split.labels[index] == LABELS[at]


def test_the_fingerprint_is_over_pixels_labels_and_classes():
    def of(images=GREY, labels=LABELS, **more):
        return Dataset.from_arrays((images, labels), **more).fingerprint

    assert of() == of(GREY[..., None]) == of(torch.from_numpy(GREY / np.float32(255)))
    other = GREY.copy()
    other[7, 0, 0] ^= 1
    swapped = LABELS.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    assert len({of(), of(other), of(GREY, swapped), of(classes="abcd"), of(seed=1)}) == 5


def test_given_splits_stay_as_they_are():
    data = as_dataset(((GREY[:20], LABELS[:20]), (GREY[20:30], LABELS[20:30]), (GREY[30:], LABELS[30:])))
    assert [len(data.split(name)) for name in ("train", "valid", "test")] == [20, 10, 10]
    assert np.array_equal(data.valid.images[..., 0], GREY[20:30])
    assert data.fingerprint == fingerprint(data.classes, (data.train, data.valid, data.test))


@pytest.mark.parametrize(
    "form",
    [
        lambda index: Image.fromarray(plain(index)),
        lambda index: torch.from_numpy(plain(index)).permute(2, 0, 1),
        lambda index: torch.from_numpy(plain(index)).permute(2, 0, 1).float() / 255,
        plain,
    ],
    ids=["PIL", "uint8 tensor", "float tensor", "array"],
)
def test_every_form_of_a_picture_gives_the_same_grey_levels(form):
    data = as_dataset((Items(form), Items(plain)))
    assert data.classes == ("cat", "dog")
    assert data.train.images.shape == (12, 6, 7, 3)
    assert data.fingerprint == as_dataset((Items(plain), Items(plain))).fingerprint


def test_pictures_of_many_sizes_wait_for_the_preprocessing():
    data = Dataset.from_torch(Items(lambda index: Image.new("L", (5 + index, 9), index)), valid_share=0.2)
    assert not data.in_memory
    assert [photo.shape[1] - photo[0, 0, 0] for photo in (data.train.image(at) for at in range(10))] == [5] * 10
    assert (len(data.train), len(data.valid)) == (10, 2)
    mixed = Dataset.from_torch(Items(lambda index: Image.new("RGB" if index % 2 else "L", (5, 9), index)))
    assert mixed.train.image(0).shape == (9, 5, 3)


def test_without_names_the_highest_label_decides_how_many_classes_there_are():
    assert as_dataset(((GREY, LABELS), (GREY, LABELS + 1))).classes == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((GREY, LABELS + 0.5), "whole numbers"),
        ((GREY, LABELS[:-1]), r"labels have the shape \[39\]"),
        ((GREY.astype(np.int32), LABELS), "int32"),
        ((GREY / 100, LABELS), "Leave Normalize out"),
        ((np.zeros((9, 1, 4, 4), np.uint8), LABELS[:9]), "channels come last"),
        (Items(lambda index: torch.rand(3, 4, 4)), "transform="),
        (Items(lambda index: np.zeros((4, 4, 2), np.uint8)), "neither 1 nor 3 channels"),
        ([1, 2], "No data set can be made of list"),
        ("fashion-mnist", "No data set can be made of str"),
    ],
)
def test_what_is_unfit_is_told_in_words(data, said):
    with pytest.raises(DataError, match=said):
        as_dataset(data)


def test_labels_that_start_at_one_are_told_as_such():
    with pytest.raises(DataError, match=r"(?s)Label 4 of sample 3 in the train.*from 0 to 3.*subtract 1"):
        Dataset.from_arrays((GREY, LABELS + 1), classes="abcd")
    with pytest.raises(DataError, match="Label -1"):
        Dataset.from_arrays((GREY, LABELS - 1), classes="abcd")


@pytest.mark.parametrize("label", [[0.0, 1.0, 0.0], []])
def test_a_label_that_is_no_single_number_is_told_in_words(label):
    class Rows:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return GREY[index], torch.tensor(label)

    with pytest.raises(DataError, match=r"has a label of shape .* at 0"):
        as_dataset(Rows())
