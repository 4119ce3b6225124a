"""Draws that a test decides, and pictures to try them on."""

import numpy as np
import pytest
import torch

from cutaway.preprocessing import Preprocessing
from cutaway.train import TrainSettings
from cutaway.train.augmentation import Augmenter
from cutaway.train.augmentation.draws import Draws


class Decided(Draws):
    """Gives out the numbers that a test wrote down: one row per slot, one column per sample."""

    def __init__(self, *slots):
        super().__init__(np.zeros(len(slots[0]), np.uint64))
        object.__setattr__(self, "slots", [np.array(slot, np.float64) for slot in slots])

    def uniform(self, slot):
        return self.slots[slot]


@pytest.fixture
def decided():
    return Decided


@pytest.fixture
def noise():
    """`noise(B, C, H, W)`: uint8 pictures of every level."""

    def make(*shape):
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    return make


@pytest.fixture
def smooth():
    """`smooth((H, W))`: one colour picture without sharp edges, dark at its border, so that interpolations agree."""

    def make(size):
        down, across = (torch.linspace(0, np.pi, length) for length in size)
        waves = torch.stack([down.sin()[:, None] * (across * k).sin().abs()[None] for k in (1, 2, 3)])
        return (waves * 255).round().to(torch.uint8)[None]

    return make


@pytest.fixture
def augmenter():
    """`augmenter(*words, size=…, color=…)`."""

    def make(*words, size=(28, 28), color="rgb", mean=0.3, seed=0, **spec):
        channels = 1 if color == "grey" else 3
        preprocessing = Preprocessing(size=size, color=color, mean=(mean,) * channels, std=(1.0,) * channels, **spec)
        return Augmenter(TrainSettings(augment=words, seed=seed), preprocessing)

    return make
