"""Batches as the network takes them."""

import numpy as np
import torch

from cutaway.batches import Feed
from cutaway.datasets import Split
from cutaway.preprocessing import Preprocessing
from cutaway.preprocessing.tensors import Preprocess


def test_batches_are_normalised_as_the_exported_file_does_it_to_the_bit_and_pictures_stay():
    images = np.random.default_rng(0).integers(0, 256, (7, 9, 8, 3), dtype=np.uint8)
    wanted = Preprocessing(size=(9, 8), color="rgb", resize="stretch", mean=(0.1, 0.5, 0.4), std=(0.3, 0.2, 0.7))
    feed = Feed(Split("train", np.zeros(7, np.int64), images), wanted)
    (batch,) = feed.batches(7)
    pictures = feed.pictures(batch)
    before = pictures.clone()
    assert torch.equal(feed.normalised(pictures), Preprocess(wanted)(torch.from_numpy(images)))
    assert torch.equal(pictures, before)
