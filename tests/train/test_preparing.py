"""How a network's input is decided from settings and data."""

import numpy as np
import pytest

from cutaway.datasets import load
from cutaway.settings import TrainSettings
from cutaway.train.preparing import describe_geometry


@pytest.fixture(scope="module")
def files(pictures):
    return load(f"folder:{pictures}")


def described(dataset, **settings):
    return describe_geometry(TrainSettings(network="lenet5", **settings), dataset)


def test_files_are_cropped_and_pictures_in_memory_stretched_unless_the_settings_say_how(files):
    in_memory = load("fashion-mnist-sample")
    assert (described(files).resize, described(files).resize_to) == ("shorter", 74)
    assert described(in_memory).resize == "stretch"
    assert described(files, resize="stretch", image_size=28).size == (28, 28)
    assert described(in_memory, resize="shorter").resize_to == 32
    padded = described(files, resize="pad", image_size=28)
    assert (padded.resize, padded.size, padded.resize_to) == ("pad", (28, 28), None)


def test_a_padded_photo_is_seen_whole(files):
    photo = files.train.image(0)
    seen = described(files, resize="pad", image_size=72).picture(photo)
    # 30 x 36 becomes 60 x 72, with 6 rows of grey above and below.
    assert photo.shape[:2] == (30, 36)
    assert np.array_equal((seen == 128).all((1, 2)), [True] * 6 + [False] * 60 + [True] * 6)
