"""Shared by all tests: pictures, and one thread a process, so that two of them don't fight for two cores."""

import os

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of 66 small pictures of three classes that differ in brightness."""
    folder = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0)
    for index, name in enumerate(("dark", "grey", "light")):
        (folder / name).mkdir()
        for number in range(22):
            pixels = noise.integers(0, 90, (30, 36, 3)) + 80 * index
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder
